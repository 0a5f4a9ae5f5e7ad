"""How long `task=import` takes: a raw zoo is exported, and imported again, by one process and by all.

    python benchmarks/importing.py --models 50 --epochs 50

The weights are those of a real zoo of digits; reading does not care which. Seconds, and extrapolated to 1,000 models × 51
states, the size of a published Seed zoo.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run(*words: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, str(ROOT / "run.py"), *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        zoo = ["zoo=digits_hyp10r", "logger=none"]
        small = [f"zoo.models={asked.models}", f"zoo.epochs={asked.epochs}", "dataset.train_size=20"]
        run(*zoo, *small, f"paths.root={folder}/trained")
        seconds = run("task=export", "format=raw", *zoo, f"paths.root={folder}/trained")
        states = asked.models * (asked.epochs + 1)
        print(f"{asked.models} models × {asked.epochs + 1} states; a published zoo has 1,000 × 51")
        print(f"export: {seconds:.1f} s, {1e3 * seconds / states:.2f} ms a state")
        raw, cores = f"{folder}/trained/exports/digits_hyp10r_raw", os.cpu_count() or 1
        for repeat in range(asked.repeats):
            for processes in dict.fromkeys((1, cores)):
                root = f"{folder}/{repeat}_{processes}"
                words = ["task=import", *zoo, f"source={raw}", f"paths.root={root}", f"engine.threads={processes}"]
                empty = run("task=import", *zoo, f"source={raw}", f"paths.root={root}_1", "zoo.models=1", words[-1])
                seconds = run(*words) - empty
                whole = seconds / (states - asked.epochs - 1) * 51_000 / 60
                print(
                    f"import, {processes} processes: {seconds:.1f} s besides {empty:.1f} s of starting; "
                    f"1,000 × 51 in {whole:.1f} minutes",
                    flush=True,
                )


if __name__ == "__main__":
    main()
