"""A web server on loopback that sends what it is told to, whole, in parts or cut off."""

import http.server
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Server:
    """What a web server sends under each path.

    Attributes:
        cut: how many answers to a path break off half-way.
        delay: seconds before an answer.
        parts: whether it can give the rest of a file (Range).
        ranges: from which byte on each answer was sent.
    """

    address: str = ""
    content: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    delay: float = 0.0
    parts: bool = True
    requests: list[str] = field(default_factory=list)
    ranges: list[int] = field(default_factory=list)


@contextmanager
def serving() -> Iterator[Server]:
    """A web server on loopback."""
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.requests.append(self.path)
            threading.Event().wait(state.delay)  # tests replace time.sleep
            content = state.content.get(self.path)
            if content is None:
                self.send_error(404)
                return
            asked = self.headers.get("Range", "") if state.parts else ""
            begin = int(asked.removeprefix("bytes=").removesuffix("-") or 0)
            state.ranges.append(begin)
            if begin >= len(content) > 0:
                self.send_error(416)
                return
            self.send_response(206 if begin else 200)
            content = content[begin:]
            self.send_header("Content-Length", str(len(content)))
            for name, value in state.headers.items():
                self.send_header(name, value)
            self.end_headers()
            if state.cut[self.path] > 0:
                state.cut[self.path] -= 1
                content = content[: len(content) // 2]
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        state.address = f"http://127.0.0.1:{httpd.server_address[1]}"
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        httpd.shutdown()
        thread.join()
