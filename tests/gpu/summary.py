# SPDX-License-Identifier: Apache-2.0
"""summary.py OUT MODE SIMULATED: gpu-verify.json and gpu-verify.txt from what the steps of verify.sh left in OUT. The
exit status is 0 unless a step failed."""
import datetime
import json
import os
import sys


def main():
    out, mode, simulated = sys.argv[1:]
    with open(os.path.join(out, "steps.txt")) as file:
        steps = [dict(zip(("name", "result", "seconds", "why"), line.rstrip("\n").split("\t"))) for line in file]
    for step in steps:
        step["seconds"] = int(step["seconds"])
    result = {"when": datetime.datetime.now().isoformat(timespec="seconds"), "smoke": mode == "--smoke",
              "simulated": simulated == "true", "steps": steps}
    for name in ("parity", "parity_cudnn", "parity_own", "examples", "benchmarks"):
        path = os.path.join(out, name + ".json")
        if os.path.exists(path):
            with open(path) as file:
                result[name] = json.load(file)
    lines = ["the SIMULATED device: this says nothing about a GPU", ""] if result["simulated"] else []
    lines += [f"{s['name']:12} {s['result']:8} {s['seconds']:4} s  {s['why']}" for s in steps]
    for step in steps:
        path = os.path.join(out, step["name"] + ".log")
        if os.path.exists(path):
            with open(path, errors="replace") as file:
                lines += ["", f"== {step['name']}", *file.read().splitlines()[-120:]]
    for name, text in (("gpu-verify.json", json.dumps(result, indent=1)), ("gpu-verify.txt", "\n".join(lines))):
        with open(os.path.join(out, name), "w") as file:
            file.write(text + "\n")
        print("written:", os.path.join(out, name))
    failed = [s["name"] for s in steps if s["result"] == "failed"]
    print(f"{len(steps)} steps, " + (f"failed: {', '.join(failed)}" if failed else "none failed"))
    return 1 if failed else 0


sys.exit(main())
