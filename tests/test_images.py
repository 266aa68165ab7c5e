"""What markers of pictures may do: the work they make, the files they reach, and what they give away."""

from __future__ import annotations

import base64
import contextlib
import os
import struct
import subprocess
import sys
import time

import pytest

import prx
from prx import images
from prx.accounts.config import Images
from prx.core.messages import data_url, expand_images

PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + struct.pack(">II", 3, 2) + b"\x08\0\0\0\0"
URL = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"


def plan(prompt, **allowed):
    """The content that would be sent for a prompt."""
    config = {"images": allowed, "providers": {"compatible": {"api_url": "http://127.0.0.1:9"}}}
    with prx.Client(config, env={}) as client:
        return client.plan(prompt, "compatible/m")[1].messages[0]["content"]


def pictures(content):
    return (
        [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
        if isinstance(content, list)
        else []
    )


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "a.png").write_bytes(PNG)
    (tmp_path / "in" / "deep" / "b.png").write_bytes(PNG)
    (tmp_path / "outside.png").write_bytes(PNG + b"outside")
    return tmp_path / "in"


# ------------------------------------------------------------------ the work

SHAPES = {
    "unclosed": "[IMAGE:",
    "unclosed, of data": "[IMAGE:data:image/png;base64,AAAA ",
    "closed, of nothing": "[IMAGE:]",
    "closed, of text": "x[IMAGE:y]z",
    "closed, of data that is none": "[IMAGE:data:text/plain,AAAA]",
    "one in another": "[IMAGE:[IMAGE:a]",
    "brackets": "[IMAGE]:]",
    "pictures": f"a [IMAGE:{URL}] ",
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("form", ["text", "part"])
def test_the_work_grows_with_the_text_and_not_with_its_square(shape, form):
    def seconds(size):
        text = shape * (size // len(shape))
        message = {"role": "user", "content": text if form == "text" else [{"type": "text", "text": text}]}
        begin = time.process_time()
        expand_images([message], data_url)
        return time.process_time() - begin

    small, large = (min(seconds(size) for _ in range(3)) for size in (250_000, 1_000_000))
    assert large < max(9 * small, 0.05), "four times the text, sixteen times the work"


def test_a_long_prompt_takes_no_time(folder):
    """All shapes, with files allowed: no name is longer than a path, and a text of two megabytes is nothing to fear."""
    begin = time.process_time()
    for shape in SHAPES.values():
        with contextlib.suppress(prx.ConfigError):
            plan(shape * (2_000_000 // len(shape)), folder=str(folder), urls=True)
    plan(f"[IMAGE:{'x/' * 1_000_000}]", folder=str(folder))
    assert time.process_time() - begin < 20


# ------------------------------------------------------------------ bounded together


def test_so_many_files_and_no_more(folder):
    allowed = {"folder": str(folder), "max_count": 3}
    assert len(pictures(plan("[IMAGE:a.png]" * 3, **allowed))) == 3
    with pytest.raises(prx.ConfigError, match=r"pictures of one call: more than 3 files.*") as caught:
        plan("[IMAGE:a.png]" * 4, **allowed)
    assert "images.max_count" in caught.value.hint
    for name in (
        "none.png",
        "../outside.png",
        "/etc/passwd",
    ):  # counted as well: the limit says nothing of what there is
        plan(f"[IMAGE:{name}]" * 3, **allowed)
        with pytest.raises(prx.ConfigError, match="more than 3 files"):
            plan(f"[IMAGE:{name}]" * 4, **allowed)
    assert len(pictures(plan(f"[IMAGE:{URL}]" * 10, **allowed))) == 10, (
        "what the text holds itself is as long as the text"
    )


def test_so_many_bytes_and_no_more(folder):
    allowed = {"folder": str(folder), "max_total_bytes": 2 * len(PNG)}
    assert len(pictures(plan("[IMAGE:a.png] [IMAGE:deep/b.png]", **allowed))) == 2
    with pytest.raises(
        prx.ConfigError, match=r"pictures of one call: they have more than \d+ bytes together"
    ) as caught:
        plan("[IMAGE:a.png] [IMAGE:deep/b.png] [IMAGE:a.png]", **allowed)
    assert "images.max_total_bytes" in caught.value.hint
    assert len(pictures(plan("[IMAGE:a.png] [IMAGE:a.png]", **allowed))) == 2, "each call counts anew"


def test_a_few_letters_do_not_become_a_flood(folder):
    """Without a word in the configuration, too."""
    (folder / "big.png").write_bytes(PNG + b"x" * 4_900_000)
    with pytest.raises(prx.ConfigError, match="more than 20000000 bytes together"):
        plan("[IMAGE:big.png]" * 80, folder=str(folder))
    with pytest.raises(prx.ConfigError, match="more than 100 files"):
        plan("[IMAGE:x]" * 101, folder=str(folder))
    several = [{"role": "user", "content": "[IMAGE:x]"}] * 101
    with pytest.raises(prx.ConfigError, match="more than 100 files"):
        plan(several, folder=str(folder))


# ------------------------------------------------------------------ which files


@pytest.mark.parametrize("reference", ["a.png", "./a.png", "deep/b.png", "deep//b.png", "{folder}/a.png", " a.png "])
def test_a_picture_inside_is_sent(folder, reference):
    assert pictures(plan(f"see [IMAGE:{reference.format(folder=folder)}]", folder=str(folder))) == [URL]


def test_the_folder_itself_may_be_a_link(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    for reference in ("a.png", f"{tmp_path}/link/a.png", f"{folder}/a.png"):
        assert pictures(plan(f"[IMAGE:{reference}]", folder=str(tmp_path / "link"))) == [URL]


REFUSED = {
    "missing": ("none.png", None),
    "missing outside": ("../none.png", None),
    "missing, absolute": ("/etc/no-such-file", None),
    "outside": ("../outside.png", None),
    "outside and back": ("../in/a.png", None),
    "outside by way of a folder": ("deep/../../outside.png", None),
    "absolute": ("/etc/passwd", None),
    "absolute, outside": ("{outside}", None),
    "the folder": (".", None),
    "a folder": ("deep", None),
    "a file as a folder": ("a.png/x", None),
    "no picture": ("x", lambda path: path.write_text("no picture")),
    "empty": ("x", lambda path: path.touch()),
    "too large": ("x", lambda path: path.write_bytes(PNG + b"x" * 2000)),
    "a link to a picture outside": ("x", lambda path: path.symlink_to("../outside.png")),
    "a link to a picture inside": ("x", lambda path: path.symlink_to("a.png")),
    "a link to a folder": ("x/b.png", lambda path: path.symlink_to("deep")),
    "a link to nothing": ("x", lambda path: path.symlink_to("nothing")),
    "a link to itself": ("x", lambda path: path.symlink_to("x")),
    "a second name": ("x", lambda path: path.hardlink_to(path.parent.parent / "outside.png")),
    "a pipe": ("x", os.mkfifo),
    "not readable": ("x", lambda path: (path.write_bytes(PNG), path.chmod(0))),
    "a zero": ("a\0.png", None),
    "too long": ("x" * 300, None),
    "far too long": ("x/" * 30_000, None),
    "half a letter": ("\udcff", None),
}


@pytest.mark.parametrize("why", REFUSED)
def test_any_other_marker_stays_text(folder, why):
    """Whatever the reason: neither an error nor anything else tells one from another, and the call goes on."""
    reference, make = REFUSED[why]
    if make:
        make(folder / "x")
    if why == "not readable" and os.geteuid() == 0:
        pytest.skip("root reads everything")
    prompt = f"see [IMAGE:{reference.format(outside=folder.parent / 'outside.png')}] here"
    assert plan(prompt, folder=str(folder), max_bytes=1000) == prompt
    assert pictures(plan(f"{prompt} [IMAGE:a.png]", folder=str(folder), max_bytes=1000)) == [URL]


@pytest.mark.parametrize("why", [why for why in REFUSED if why != "not readable"])
def test_a_system_without_descriptors_of_folders(folder, why, monkeypatch):
    """The same there, but for what is swapped in between a look and the opening."""
    monkeypatch.setattr(images, "_BY_DESCRIPTOR", False)
    test_a_picture_inside_is_sent(folder, "deep/b.png")
    test_any_other_marker_stays_text(folder, why)


def test_a_folder_that_is_not_there(tmp_path):
    assert plan("[IMAGE:a.png]", folder=str(tmp_path / "none")) == "[IMAGE:a.png]"


SWAPPING = """
import os, sys
inside, outside, place = sys.argv[1:]
spare = place + ".spare"
while True:
    os.symlink(outside, spare)
    os.replace(spare, place)
    os.symlink(inside, spare)
    os.replace(spare, place)
    with open(spare, "wb") as file:
        file.write(open(inside, "rb").read())
    os.replace(spare, place)
"""


def test_a_link_that_is_put_in_between(folder):
    """Somebody who may write in the folder swaps a picture for a link and back, as fast as may be."""
    place = folder / "swapped.png"
    place.write_bytes(PNG)
    allowed, end, seen = Images(folder=str(folder)), time.monotonic() + 2, set()
    arguments = [sys.executable, "-c", SWAPPING, str(folder / "a.png"), str(folder.parent / "outside.png"), str(place)]
    with subprocess.Popen(arguments) as swapper:
        try:
            while time.monotonic() < end:
                with contextlib.suppress(prx.ConfigError):
                    seen.add(images.Locator(allowed)("swapped.png"))
        finally:
            swapper.kill()
    assert seen <= {URL, None}
    assert URL in seen
