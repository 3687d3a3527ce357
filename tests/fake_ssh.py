"""A stand-in for OpenSSH's client: no network, a "box" is another environment on this one.

Knows what llmops_tui/ssh_link.py uses and refuses the rest: a master connection that runs one program, programs and forwarded Unix
sockets through it. The boxes are in `boxes.json` beside the program: `{"environ": {…}}`, or `{"fails": "what ssh says"}`; with `"asks":
true` a password ("secret") is asked for at the terminal, if that may be; with `"prohibited": true` no socket is forwarded.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn


def fail(message: str) -> NoReturn:
    """As ssh ends when it fails."""
    print(message, file=sys.stderr, flush=True)
    os._exit(255)


def main(argv: list[str]) -> int:
    """The command line of ssh, as far as it is used."""
    options, control, order, forward, words = {}, "", "", "", list(argv)
    while words and words[0] != "--":
        word = words.pop(0)
        if word.startswith("-o"):
            name, _, value = word[2:].partition("=")
            options[name] = value
        elif word == "-S":
            control = words.pop(0)
        elif word == "-O":
            order = words.pop(0)
        elif word == "-L":
            forward = words.pop(0)
        elif word == "-F":
            words.pop(0)
        elif word not in ("-T", "-t"):
            fail(f"fake ssh does not know {word}")
    host, *command = words[1:]
    if order == "forward":
        return 0 if ask(control, forward) == "done" else 255
    box = box_named(host)
    if options.get("ControlMaster") == "yes":
        return be_master(box, options, command)
    if control:
        ask(control, "there?")
    return run_there(command, environ(box))


def run_there(command: list[str], environment: dict[str, str]) -> int:
    """With a standard input of its own, which ends with us as the connection would."""
    with subprocess.Popen(["/bin/sh", "-c", *command], env=environment, stdin=subprocess.PIPE) as program:
        threading.Thread(target=hand_on, args=(program,), daemon=True).start()
        return program.wait()


def hand_on(program: subprocess.Popen[bytes]) -> None:
    """What comes in goes there, and the end of it too."""
    assert program.stdin is not None
    with contextlib.suppress(OSError, ValueError):
        while data := os.read(0, 65536):
            program.stdin.write(data)
            program.stdin.flush()
        program.stdin.close()


def box_named(host: str) -> dict[str, Any]:
    """What the list says of the box."""
    boxes: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("boxes.json").read_text())
    if host not in boxes:
        fail(f"ssh: Could not resolve hostname {host}: Name or service not known")
    if "fails" in boxes[host]:
        fail(boxes[host]["fails"])
    return boxes[host]


def environ(box: dict[str, Any]) -> dict[str, str]:
    """Nothing of ours but what the box has."""
    found: dict[str, str] = box["environ"]
    return found


def ask(control: str, line: str) -> str:
    """A line to the master, and its answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(control)
        except OSError as error:
            fail(f"Control socket connect({control}): {error.strerror}")
        connection.sendall(line.encode() + b"\n")
        return connection.recv(100).decode()


def be_master(box: dict[str, Any], options: dict[str, str], command: list[str]) -> int:
    """Run the program, and serve the control socket until it ends."""
    if box.get("asks") and (options["BatchMode"] == "yes" or ask_at_terminal() != "secret"):
        fail("Permission denied (publickey,password).")
    os.umask(0o177)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(options["ControlPath"])
    listener.listen()
    threading.Thread(target=serve_control, args=(listener, box), daemon=True).start()
    with subprocess.Popen(["/bin/sh", "-c", *command], env=environ(box), umask=0o077) as program:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(255))
        return program.wait()


def ask_at_terminal() -> str:
    """As ssh asks: at the terminal, whatever the streams are; like it, Ctrl+C only ends the question."""
    signal.signal(signal.SIGINT, lambda *_: fail("Permission denied (publickey,password)."))
    with open("/dev/tty", "r+b", buffering=0) as terminal:
        terminal.write(b"password: ")
        return terminal.readline().decode().strip()


def serve_control(listener: socket.socket, box: dict[str, Any]) -> None:
    """Forward what is asked for."""
    while True:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(ConnectionError):
            local, _, remote = connection.recv(1000).decode().strip().partition(":")
            if remote:
                door = socket.socket(socket.AF_UNIX)
                door.bind(local)
                door.listen()
                threading.Thread(target=serve_forward, args=(door, remote, box), daemon=True).start()
            connection.sendall(b"done")


def serve_forward(door: socket.socket, remote: str, box: dict[str, Any]) -> None:
    """Each connection to the socket here becomes one to the socket there; where none can be made it is closed."""
    while True:
        near, _ = door.accept()
        far = socket.socket(socket.AF_UNIX)
        try:
            if box.get("prohibited"):
                print("channel 1: open failed: administratively prohibited: open failed", file=sys.stderr, flush=True)
                raise PermissionError
            far.connect(remote)
        except OSError:
            near.close()
            far.close()
            continue
        for source, target in ((near, far), (far, near)):
            threading.Thread(target=pump, args=(source, target), daemon=True).start()


def pump(source: socket.socket, target: socket.socket) -> None:
    """Bytes one way until the end of them."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
