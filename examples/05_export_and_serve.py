"""A deployable file behind a quality gate, its answers, and a server: python examples/05_export_and_serve.py RUN TEXTS

RUN: the folder of a run (02_distill.py leaves one). TEXTS: a file of texts, a line each.
"""

import json
import subprocess
import sys
import time
import urllib.request

import contrastill

run, texts = sys.argv[1:3]
PORT = int(sys.argv[3]) if len(sys.argv) > 3 else 8123

bundle = contrastill.export(model=run, to="onnx", precision="int8", max_drop=5.0, overwrite=True)
gate = bundle.metadata["gate"]
print(f"{gate['metric']}: {gate['torch']:.3f} in torch, {gate['bundle']:.3f} in int8")

found = contrastill.verify(bundle=bundle.folder)
print("problems:", found["problems"] or "none")

contrastill.predict(model=bundle.folder, data=texts, out="runs/answers.jsonl", overwrite=True)

server = subprocess.Popen([sys.executable, "-m", "contrastill", "serve", str(bundle.folder), "--port", str(PORT)])
try:
    for _ in range(100):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{PORT}/ready", timeout=1)
            break
        except OSError:
            time.sleep(0.2)
    body = json.dumps({"texts": ["a text", "another text"]}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}/predict", body, {"Content-Type": "application/json"})
    print(json.load(urllib.request.urlopen(request, timeout=10))["predictions"])
finally:
    server.terminate()
    server.wait(20)
