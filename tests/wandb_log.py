"""Reads an offline W&B run back: LevelDB log framing (blocks of 32 KiB, records of crc, length, kind) around protobuf."""

import json
import struct
import time
from pathlib import Path

from wandb.proto import wandb_internal_pb2 as pb

BLOCK, HEADER, FILE_HEADER = 32768, 7, 7
FULL, FIRST, LAST = 1, 2, 4


def records(path: Path):
    data = path.read_bytes()
    position, buffer = FILE_HEADER, b""
    while position < len(data):
        left = BLOCK - position % BLOCK
        if left < HEADER:  # padding
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + HEADER].ljust(HEADER, b"\0"))
        if kind == 0 and length == 0:
            position += left
            continue
        body = data[position + HEADER : position + HEADER + length]
        if len(body) < length:  # not written yet
            return
        position += HEADER + length
        buffer = body if kind in (FULL, FIRST) else buffer + body
        if kind in (FULL, LAST):
            record = pb.Record()
            record.ParseFromString(buffer)
            yield record


def read_run(path: Path) -> dict:
    """Name, id, group, kind and tags of the run, its config, its history as a list of {key: value}, and its artifacts as
    {name: (type, metadata, names of what is in them)}. Waits for the record of its end: W&B's service writes on a little."""
    out: dict = {"config": {}, "history": [], "artifacts": {}}
    end = time.monotonic() + 20
    found = list(records(path))
    while not found or found[-1].WhichOneof("record_type") != "exit":
        assert time.monotonic() < end, "the run has no end"
        time.sleep(0.1)
        found = list(records(path))
    for record in found:
        kind = record.WhichOneof("record_type")
        if kind == "run":
            out |= {"id": record.run.run_id, "name": record.run.display_name, "group": record.run.run_group}
            out |= {"job_type": record.run.job_type, "tags": list(record.run.tags)}
            for item in record.run.config.update:
                out["config"][item.key] = json.loads(item.value_json)
        elif kind == "config":
            for item in record.config.update:
                if item.key:
                    out["config"][item.key] = json.loads(item.value_json)
        elif kind == "artifact" or (kind == "request" and record.request.HasField("log_artifact")):
            made = record.artifact if kind == "artifact" else record.request.log_artifact.artifact
            inside = [entry.path for entry in made.manifest.contents]
            out["artifacts"][made.name] = (made.type, json.loads(made.metadata or "{}"), inside)
        elif kind == "history":
            row: dict = {}
            for item in record.history.item:
                *parents, last = item.nested_key or [item.key]
                place = row
                for parent in parents:
                    place = place.setdefault(parent, {})
                place[last] = json.loads(item.value_json)
            out["history"].append(row)
    return out
