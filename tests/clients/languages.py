"""How the clients of each language are built and run."""

import subprocess


def go(folder, target):
    program = target / "clients"
    subprocess.run(["go", "build", "-o", str(program), "."], cwd=folder, check=True)
    return [str(program)], ["gorilla", "coder", "gws", "gobwas", "r3labs", "tmaxmax", "launchdarkly"]


def java(folder, target, *options):
    subprocess.run(["mvn", "-q", "-B", *options, "-f", str(folder / "pom.xml"), "compile"], check=True)
    words = ["java", "-cp", f"{target}/classes:{target}/dependency/*"]
    return words + ["clients.Main"], [
        "jdk", "jdk-events", "okhttp", "okhttp-sse", "okhttp-eventsource", "java-websocket", "tyrus", "jetty",
        "reactor-netty", "httpclient5", "spring", "httpclient5-publisher", "spring-publisher",
    ]


def java_okhttp4(folder, target):
    words, _ = java(folder.with_name("java"), target, "-Pokhttp4")
    return words, ["okhttp", "okhttp-sse", "okhttp-eventsource"]


def node(folder, target):
    subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=folder, check=True)
    return ["node", str(folder / "clients.mjs")], [
        "ws", "reconnecting-websocket", "partysocket", "undici", "undici-events", "eventsource", "eventsource-2",
        "eventsource-3",
    ]


def python(folder, target):
    subprocess.run(["python3", "-m", "venv", str(target)], check=True)
    wanted = ["install", "--quiet", "--requirement", str(folder / "requirements.txt")]
    subprocess.run([str(target / "bin/pip"), *wanted], check=True)
    return [str(target / "bin/python"), str(folder / "clients.py")], [
        "websockets", "aiohttp", "httpx-sse", "sseclient-py",
    ]


LANGUAGES = {"go": go, "java": java, "java-okhttp4": java_okhttp4, "node": node, "python": python}
