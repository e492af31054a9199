#!/usr/bin/env python3
"""Makes the README's pictures from real runs: `make pictures`.

The live view is a terminal's screen, taken in the middle of a run and written as SVG; the report is that run's report.html in headless Chromium;
the exercises leave pictures of their own. An exercise that lies in target/pictures is not done again: remove it there to renew it.
`--only` makes some of them, as `python pictures/make.py target/release/mlpconv --only live report tune`.
"""

import argparse
import fcntl
import html
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

try:
    import pyte
    from PIL import Image
except ImportError as error:
    sys.exit(f"pictures need pyte and pillow ({error}); `make pictures` installs them into target/pictures/venv")

HERE = Path(__file__).resolve().parent
WORK = HERE.parent / "target" / "pictures"
EXERCISES = ["tune", "one-by-one", "resources", "reduce", "convergence", "heads", "linear-output"]
COLUMNS, ROWS = 100, 26
# A run short enough for a picture.
RUN = "--preset small --train-limit 12800 --test-limit 2000 --batch-size 64 --epochs 6".split()
# Terminal colours that can be read on a light and on a dark page, on a background of their own.
INK, PAPER = "#d8dee9", "#20242c"
COLOURS = {
    "default": INK, "black": "#4c566a", "red": "#e06c75", "green": "#98c379", "brown": "#e5c07b", "blue": "#61afef",
    "magenta": "#c678dd", "cyan": "#56b6c2", "white": "#e5e9f0", "brightblack": "#7f8aa0", "brightred": "#e88b92",
    "brightgreen": "#b3d69a", "brightbrown": "#f0d399", "brightblue": "#8cc4f4", "brightmagenta": "#d79ae8",
    "brightcyan": "#83cdd6", "brightwhite": "#ffffff",
}


def start(command, env):
    """Starts `command` in a terminal of COLUMNS x ROWS. Returns its process and the terminal's end."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env, cwd=WORK, start_new_session=True)
    os.close(theirs)
    return process, ours


def watch(command, moment):
    """Runs `command` to its end, and returns the screen at the first time at which `moment(text)` holds."""
    env = dict(os.environ, TERM="xterm-256color", LANG="C.UTF-8", LC_ALL="C.UTF-8", COLUMNS=str(COLUMNS), LINES=str(ROWS))
    env.pop("NO_COLOR", None)
    process, terminal = start(command, env)
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    taken, quiet = None, time.monotonic()
    while True:
        ready, _, _ = select.select([terminal], [], [], 0.05)
        if ready:
            try:
                said = os.read(terminal, 65536)
            except OSError:
                break
            if not said:
                break
            stream.feed(said)
            quiet = time.monotonic()
        # A frame is whole when the program has written nothing for a moment.
        elif taken is None and time.monotonic() - quiet > 0.04 and moment("\n".join(screen.display)):
            taken = svg(screen)
    code = process.wait()
    if code != 0:
        sys.exit(f"{' '.join(map(str, command))} ended with {code}:\n" + "\n".join(screen.display))
    if taken is None:
        sys.exit(f"{' '.join(map(str, command))} never showed what was waited for")
    return taken


def svg(screen):
    """The screen as SVG."""
    wide, high, pad = 8.4, 18, 14
    lines = [line for line in range(ROWS) if screen.display[line].strip()]
    last = lines[-1] if lines else 0
    out = []
    for row in range(last + 1):
        column = 0
        while column < COLUMNS:
            cell = screen.buffer[row][column]
            # Block characters are put one by one, so that they meet whatever the font's width.
            end = column + 1
            while end < COLUMNS and style(screen.buffer[row][end]) == style(cell):
                end += 1
            text = "".join(screen.buffer[row][at].data for at in range(column, end))
            if text.strip():
                fill, bold = style(cell)
                x, y = pad + column * wide, pad + row * high + 13
                weight = ' font-weight="bold"' if bold else ""
                length = f' textLength="{len(text) * wide:.1f}" lengthAdjust="spacingAndGlyphs"'
                out.append(f'<text x="{x:.1f}" y="{y}" fill="{fill}"{weight}{length} xml:space="preserve">{html.escape(text)}</text>')
            column = end
    width, height = COLUMNS * wide + 2 * pad, (last + 1) * high + 2 * pad
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" height="{height}" '
        f'font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="14">'
        f'<title>A training run in a terminal</title><rect width="100%" height="100%" rx="8" fill="{PAPER}"/>'
        + "\n".join(out) + "</svg>\n"
    )


def style(cell):
    """A cell's colour, and whether it is bold."""
    name = cell.bg if cell.reverse and cell.bg != "default" else cell.fg
    colour = COLOURS.get(name) or (f"#{name}" if len(name) == 6 else INK)
    return colour, cell.bold


def first_chart(page):
    """The first chart of a page as a picture of its own, with the page's style."""
    text = page.read_text()
    style = re.search(r"<style>(.*?)</style>", text, re.S).group(1)
    chart = re.search(r"<svg class=\"chart\".*?</svg>", text, re.S).group(0)
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', chart)
    pad = 12
    width, height = (float(side) + 2 * pad for side in box.groups())
    chart = chart.replace(box.group(0), f'viewBox="-{pad} -{pad} {width:g} {height:g}"')
    # A picture has a ground of its own: the page that shows it may be light or dark.
    ground = f'<rect x="-{pad}" y="-{pad}" width="{width:g}" height="{height:g}" rx="6" style="fill: var(--ground)"/>'
    ground = f"<style>{style}</style>{ground}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}"'
    return chart.replace("<svg", head, 1).replace(">", f">{ground}", 1) + "\n"


def chromium():
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if shutil.which(name):
            return name
    sys.exit("pictures of the report need Chromium; `apt-get install chromium` installs it")


def photograph(page, to, width, height):
    """The top of a page in headless Chromium, in few colours."""
    raw = WORK / "page.png"
    subprocess.run(
        [chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={width},{height}",
         f"--screenshot={raw}", page.as_uri()],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    Image.open(raw).convert("RGB").quantize(128).save(to, optimize=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mlpconv", type=Path, help="the program, built for release")
    parser.add_argument("--only", nargs="*", help="live, report or names of exercises")
    args = parser.parse_args()
    wanted = lambda name: not args.only or name in args.only
    WORK.mkdir(parents=True, exist_ok=True)
    run = WORK / "runs" / "first"
    if wanted("live"):
        shutil.rmtree(run, ignore_errors=True)
        screen = watch([args.mlpconv.resolve(), "train", "--out", "runs/first", *RUN], lambda text: re.search("epoch 5/6, step 1../200", text))
        (HERE / "live.svg").write_text(screen.replace(str(Path.home()), "~"))
    if wanted("report"):
        photograph(run / "report.html", HERE / "report.png", 900, 1400)
    for name in EXERCISES:
        if not wanted(name):
            continue
        folder = WORK / name
        if not (folder / "report.html").exists():
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run([args.mlpconv, "exercise", name, "--device", "cpu", "--out", folder], check=True)
        (HERE / f"{name}.svg").write_text(first_chart(folder / "report.html"))


main()
