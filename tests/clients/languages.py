"""How the clients of each language are built and run."""

import subprocess


def go(folder, target):
    program = target / "clients"
    subprocess.run(["go", "build", "-o", str(program), "."], cwd=folder, check=True)
    return [str(program)], ["gorilla", "coder", "gws", "gobwas", "r3labs", "tmaxmax", "launchdarkly"]


def java(folder, target):
    subprocess.run(["mvn", "-q", "-B", "-f", str(folder / "pom.xml"), "compile"], check=True)
    words = ["java", "-cp", f"{target}/classes:{target}/dependency/*"]
    return words + ["clients.Main"], [
        "jdk", "jdk-events", "okhttp", "okhttp-eventsource", "java-websocket", "tyrus", "jetty", "reactor-netty",
    ]


def node(folder, target):
    subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=folder, check=True)
    return ["node", str(folder / "clients.mjs")], ["ws", "eventsource"]


def python(folder, target):
    subprocess.run(["python3", "-m", "venv", str(target)], check=True)
    wanted = ["install", "--quiet", "--requirement", str(folder / "requirements.txt")]
    subprocess.run([str(target / "bin/pip"), *wanted], check=True)
    return [str(target / "bin/python"), str(folder / "clients.py")], ["websockets", "httpx-sse"]


LANGUAGES = {"go": go, "java": java, "node": node, "python": python}
