"""The search page, over HTTP and in a browser."""

from __future__ import annotations

import base64
import http.client
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from serving.config import Catalogue, ModelConfig
from serving.index.command import main
from serving.versions import Policy
from tests.serving.test_index import COLOURS, Encoders, picture
from tfthesis.errors import UserError
from tfthesis.export.saved_model import write_saved_model
from tfthesis.method import Gallery, Served, Signature
from tfthesis.retrieval.exact import ExactNeighbours

EVIL = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"


class Colours(Encoders):
    """Also names the colour of an image, as a classifier does."""

    def classify(self, image):
        best = tf.math.top_k(tf.nn.softmax(9 * self.image(image)["embedding"]), 2)
        return {
            "labels": tf.gather(tf.constant(list(COLOURS)), best.indices),
            "probabilities": best.values,
            "predicted": best.values > 0.5,
        }

    def segment(self, image):
        """Give every image a red picture, a map, and shares of classes, as a segmentation does."""
        count = tf.shape(image)[0]
        red = tf.io.encode_png(tf.constant([[[200, 0, 0]] * 5] * 4, tf.uint8))
        return {
            "overlay_bytes": tf.repeat(red, count),
            "map_bytes": tf.repeat(tf.io.encode_png(tf.ones([4, 5, 1], tf.uint8)), count),
            "labels": tf.tile([["sky", EVIL, "sea"]], [count, 1]),
            "shares": tf.tile([[0.75, 0.25, 0.0]], [count, 1]),
        }

    def detect_edges(self, image):
        """Give every image a grey picture of 3 x 7 pixels, as an edge detector does."""
        picture = tf.io.encode_png(tf.fill([3, 7, 1], tf.constant(9, tf.uint8)))
        return {"edges_bytes": tf.repeat(picture, tf.shape(image)[0])}

    def edge_probabilities(self, image):
        """Give every image a map of numbers, which no person looks at."""
        count = tf.shape(image)[0]
        return {"edges": tf.zeros([count, 3, 7]), "size": tf.tile([[3, 7]], [count, 1])}


def write_export(folder):
    """Write an export of encoders, a classifier, and a search of another kind that some later method may have."""
    encoders = Colours()
    strings = tf.TensorSpec([None], tf.string)
    texts, images = np.array([b"red"], object), np.array([picture((9, 9, 9))], object)
    signatures = {
        "encode_text": Signature(lambda text: encoders.text(text), {"text": strings}, {"text": texts}, ""),
    }
    takes_images = {
        "encode_image": lambda image: encoders.image(image),
        "classify": lambda image: encoders.classify(image),
        "segment": lambda image: encoders.segment(image),
        "detect_edges": lambda image: encoders.detect_edges(image),
        "edge_probabilities": lambda image: encoders.edge_probabilities(image),
    }
    signatures |= {
        name: Signature(function, {"image": strings}, {"image": images}, "") for name, function in takes_images.items()
    }
    return write_saved_model(Served(signatures, [encoders]), folder, metadata={"model": {}, "index": {}})


def write_other(folder):
    encoders = Encoders()
    gallery = Gallery(["one", "two"], np.eye(3, dtype=np.float32)[:2], ["first", "second"])
    found = ExactNeighbours(gallery)
    search = Signature(
        lambda mood: found.search(encoders.text(mood)["embedding"], 20),
        {"mood": tf.TensorSpec([None], tf.string)},
        {"mood": np.array([b"red"], object)},
        "",
    )
    served = Served({"search_by_mood": search}, [encoders, found])
    return write_saved_model(served, folder, metadata={"model": {}, "index": {}})


def write_thumbnails(folder):
    """A model whose answers have small pictures beside them, and one place without an item."""
    ids, payload = tf.Variable([["first", EVIL, ""]]), tf.Variable([["the first", EVIL, ""]])
    small = tf.io.encode_jpeg(np.zeros((4, 6, 3), np.uint8)).numpy()
    thumbnails = tf.Variable([[small, small, b""]])

    def search(image):
        scores = tf.zeros([tf.size(image), 3])
        own = tf.zeros([tf.size(image)], tf.int32)
        found = {"ids": ids, "payload": payload, "thumbnail_bytes": thumbnails}
        return {"scores": scores, **{name: tf.gather(rows, own) for name, rows in found.items()}}

    example = {"image": np.array([picture(COLOURS["red"])], object)}
    signature = Signature(search, {"image": tf.TensorSpec([None], tf.string)}, example, "")
    served = Served({"search_by_image": signature}, [ids, payload, thumbnails])
    return write_saved_model(served, folder, metadata={"model": {}, "index": {}})


def write_swaps(folder):
    """A model whose one answer needs two images and a file of another kind: it says how long the file is by a width."""

    def swap(condition_image, reference_image, joints_file):
        count = tf.size(condition_image) + 0 * tf.size(reference_image)
        drawn = tf.io.encode_png(tf.zeros(tf.stack([3, tf.strings.length(joints_file[0]), 1]), tf.uint8))
        return {"swapped_bytes": tf.repeat(drawn, count)}

    image = np.array([picture(COLOURS["red"])], object)
    example = {"condition_image": image, "reference_image": image, "joints_file": np.array([b"1 2 3"], object)}
    inputs = {name: tf.TensorSpec([None], tf.string, name=name) for name in example}
    signature = Signature(swap, inputs, example, "")
    return write_saved_model(Served({"swap": signature}, []), folder, metadata={"model": {}, "index": {}})


@pytest.fixture(scope="module")
def shown(tmp_path_factory, serve):
    """A server with the page: model `photos` of an index with pictures, in two versions, and model `other`."""
    folder = tmp_path_factory.mktemp("demo")
    for name, colour in COLOURS.items():
        (folder / f"{name}.png").write_bytes(picture(colour))
    items = [
        {"id": "dir/red 1", "image": "red.png", "payload": "a red square"},
        {"id": EVIL, "image": "green.png", "payload": EVIL},
        {"id": "caption", "text": "blue blue", "payload": "all blue"},
        {"id": "evil caption", "text": "green", "payload": EVIL},
    ]
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    (folder / "more.jsonl").write_text(json.dumps({"id": "blue", "image": "blue.png"}) + "\n")
    index = ["--index", str(folder / "index")]
    export = write_export(folder / "exports" / "colours")
    build = ["--export", str(export), "--name", "photos", "--models", str(folder / "models")]
    assert main(["build", *index, *build, "--items", str(folder / "items.jsonl")]) == 0
    assert main(["add", *index, "--items", str(folder / "more.jsonl")]) == 0
    write_other(folder / "models" / "other")
    write_thumbnails(folder / "models" / "thumbnails")
    write_swaps(folder / "models" / "swaps")
    names = ("other", "photos", "swaps", "thumbnails")
    configs = [ModelConfig(name, folder / "models" / name, Policy("all")) for name in names]
    with serve(Catalogue(lambda: configs, named=True), rest_port=0, demo_indexes=[folder / "index"]) as stub:
        yield stub


def get(stub, path, method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", stub.rest_port, timeout=20)
    connection.request(method, path)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, response.headers, body


def test_files_of_the_page(shown):
    for path, kind in (("/demo/", "text/html"), ("/demo/page.js", "text/javascript"), ("/demo/page.css", "text/css")):
        status, headers, body = get(shown, path)
        assert status == 200
        assert headers["Content-Type"] == f"{kind}; charset=utf-8"
        assert "script-src 'self'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert body
    status, headers, _ = get(shown, "/")
    assert (status, headers["Location"]) == (302, "/demo/")


def test_models_and_pictures(shown):
    assert json.loads(get(shown, "/demo/models")[2]) == {
        "models": [
            {"name": "other", "pictures": False},
            {"name": "photos", "pictures": True},
            {"name": "swaps", "pictures": False},
            {"name": "thumbnails", "pictures": False},
        ]
    }
    status, headers, body = get(shown, "/demo/pictures/photos/dir%2Fred%201")
    assert (status, headers["Content-Type"]) == (200, "image/jpeg")
    assert tf.io.decode_jpeg(body).numpy()[..., 0].min() > 240


@pytest.mark.parametrize(
    "path",
    [
        "/demo/../pages.py",
        "/demo/..%2Fpages.py",
        "/demo/%2e%2e/%2e%2e/server.py",
        "/demo//etc/passwd",
        "/demo/%2Fetc%2Fpasswd",
        "/demo/page.js%00.html",
        "/demo/static/page.js",
        "/demo/pictures/photos/..%2Fitems.sqlite",
        "/demo/pictures/..%2F..%2Fetc/passwd",
        "/demo/pictures/photos/%ff%fe",
        "/demo/pictures/photos/caption",
        "/demo/pictures/other/one",
        "/demo/pictures/photos/dir/red 1".replace(" ", "%20"),
        "/demo/models/",
    ],
)
def test_paths_that_lead_nowhere(shown, path):
    status, headers, body = get(shown, path)
    assert status == 404
    assert headers["Content-Type"] == "application/json"
    assert list(json.loads(body)) == ["error"]


def test_nothing_is_written(shown):
    for method in ("POST", "PUT", "DELETE"):
        assert get(shown, "/demo/models", method)[0] == 400


def test_no_page_unless_asked_for(constants, published, serve, tmp_path):
    published(constants[1], tmp_path / "constant", 1)
    with serve(tmp_path, rest_port=0) as stub:
        assert get(stub, "/demo/")[0] == get(stub, "/")[0] == 404


def test_folders_without_an_index_are_refused(constants, published, serve, tmp_path):
    published(constants[1], tmp_path / "models" / "constant", 1)
    with pytest.raises(UserError, match="make an index first"):
        serve(tmp_path / "models", rest_port=0, demo_indexes=[tmp_path]).__enter__()


def test_flags(tmp_path, capsys):
    from serving.server import main

    for flags, message in ((["--demo"], "needs --rest_api_port"), (["--demo_index", "i"], "needs --demo")):
        with pytest.raises(SystemExit):
            main(["--model_base_path", str(tmp_path), *flags])
        assert message in capsys.readouterr().err


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium."""
    paths = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    missing = [name for name, path in paths.items() if path is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed: apt-get install chromium chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = paths["chromium"]
    # In a container there is no user namespace to build its sandbox with, and little shared memory.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(paths["chromedriver"]))
    driver.set_page_load_timeout(30)
    yield driver
    driver.quit()


class Page:
    """What a person sees and does."""

    def __init__(self, driver, port, eventually):
        self.driver = driver
        self.eventually = eventually
        driver.get_log("browser")
        driver.get(f"http://127.0.0.1:{port}/demo/")
        self.choose("model", "photos")
        self.wait("#input-text")

    def all(self, selector):
        from selenium.webdriver.common.by import By

        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def wait(self, selector):
        return self.eventually(lambda: self.all(selector))

    def choose(self, field, text):
        from selenium.webdriver.support.ui import Select

        self.eventually(lambda: text in [option.text for option in self.all(f"#{field} option")])
        Select(self.all(f"#{field}")[0]).select_by_visible_text(text)

    def captions(self, panel):
        """Return the captions of a panel, once it is there."""
        self.wait(f"#panel-{panel}")
        return [item.text.split("\n")[0] for item in self.all(f"section[aria-labelledby=panel-{panel}] li")]

    def text_of(self, selector):
        return " ".join(part.text for part in self.all(selector))


@pytest.fixture
def page(browser, shown, eventually):
    opened = Page(browser, shown.rest_port, eventually)
    yield opened
    # What the browser says of answers that are no 200 is expected; errors of scripts and the policy are not.
    messages = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert [message for message in messages if "Failed to load resource" not in message] == []


def test_a_sentence_finds_images_with_scores(page):
    page.all("#input-text")[0].send_keys("red red green")
    page.all("button[type=submit]")[0].click()
    assert page.captions("search_by_text") == ["a red square", EVIL, "blue.png"]
    assert "2.000" in page.text_of("li:first-child .score")
    pictures = "return [...document.querySelectorAll('li img')].map((image) => image.naturalWidth)"
    page.eventually(lambda: page.driver.execute_script(pictures) == [8, 8, 8])


def test_captions_and_names_are_text_and_not_markup(page):
    page.all("#input-text")[0].send_keys("green\n")
    assert page.captions("search_by_text")[0] == EVIL
    page.eventually(lambda: len(page.all("li img")) == 3)
    assert page.driver.title == "Search"
    assert page.all("li script") == []
    assert page.all("img[onerror]") == []


def test_an_image_finds_captions_and_labels(page, tmp_path):
    (tmp_path / "blue.png").write_bytes(picture(COLOURS["blue"]))
    page.all("#input-image")[0].send_keys(str(tmp_path / "blue.png"))
    assert page.captions("search_by_image") == ["all blue", EVIL]
    assert page.wait("[aria-labelledby=panel-classify] table tr")
    rows = [row.text for row in page.all("[aria-labelledby=panel-classify] table tr")]
    assert rows[0].startswith("blue ")
    assert rows[0].endswith("predicted")
    assert not rows[1].endswith("predicted")
    page.all("button[type=reset]")[0].click()
    assert not page.all("section")
    page.all("button[type=submit]")[0].click()
    page.eventually(lambda: "Type a text or choose an image" in page.text_of("#status"))


def test_an_image_is_segmented(page, tmp_path):
    (tmp_path / "blue.png").write_bytes(picture(COLOURS["blue"]))
    page.all("#input-image")[0].send_keys(str(tmp_path / "blue.png"))
    panel = "[aria-labelledby=panel-segment]"
    assert page.wait(f"{panel} figure img")
    size = (
        f"const image = document.querySelector('{panel} figure img'); return [image.naturalWidth, image.naturalHeight]"
    )
    page.eventually(lambda: page.driver.execute_script(size) == [5, 4])
    assert len(page.all(f"{panel} img")) == 1
    rows = [row.text for row in page.all(f"{panel} tr")]
    # A class without a pixel is left out; a name is text.
    assert rows[0].startswith("sky 75.0 %") and rows[1].startswith(EVIL) and len(rows) == 2
    link = page.all(f"{panel} a")[0]
    assert link.get_attribute("download") == "map.png"
    file = base64.b64decode(link.get_attribute("href").partition("base64,")[2])
    assert tf.io.decode_png(file).numpy().tolist() == np.ones([4, 5, 1]).tolist()


def test_edges_of_an_image_are_shown(page, tmp_path):
    (tmp_path / "blue.png").write_bytes(picture(COLOURS["blue"]))
    page.all("#input-image")[0].send_keys(str(tmp_path / "blue.png"))
    panel = "[aria-labelledby=panel-detect_edges]"
    assert page.wait(f"{panel} figure img")
    assert page.text_of("#panel-detect_edges") == "Detect edges" and page.text_of(f"{panel} figcaption") == "Edges"
    size = (
        f"const image = document.querySelector('{panel} figure img'); return [image.naturalWidth, image.naturalHeight]"
    )
    page.eventually(lambda: page.driver.execute_script(size) == [7, 3])
    # The same edges as numbers have no panel, and nothing fails.
    assert not page.all("#panel-edge_probabilities") and not page.text_of("#error")


def test_several_images_and_files_are_asked_for_until_all_are_there(page, tmp_path):
    page.choose("model", "swaps")
    (tmp_path / "blue.png").write_bytes(picture(COLOURS["blue"]))
    (tmp_path / "joints.txt").write_text("1 2 3 4 5")
    page.eventually(lambda: not page.all("#input-text"))
    # A file is not looked at as a picture.
    page.wait("#input-joints_file")[0].send_keys(str(tmp_path / "joints.txt"))
    page.eventually(lambda: page.text_of("#status") == "Still missing: Condition image, Reference image.")
    assert not [image for image in page.all(".drop img") if image.is_displayed()]
    page.all("#input-reference_image")[0].send_keys(str(tmp_path / "blue.png"))
    page.eventually(lambda: page.text_of("#status") == "Still missing: Condition image.")
    page.all("#input-condition_image")[0].send_keys(str(tmp_path / "blue.png"))
    panel = "[aria-labelledby=panel-swap]"
    assert page.wait(f"{panel} figure img") and page.text_of(f"{panel} figcaption") == "Swapped"
    width = f"return document.querySelector('{panel} figure img').naturalWidth"
    page.eventually(lambda: page.driver.execute_script(width) == len("1 2 3 4 5"))
    assert len([image for image in page.all(".drop img") if image.is_displayed()]) == 2


def test_an_image_can_be_dropped(page):
    page.driver.execute_script(
        """
        const bytes = Uint8Array.from(atob(arguments[0]), (letter) => letter.charCodeAt(0));
        const data = new DataTransfer();
        data.items.add(new File([bytes], "red.png", { type: "image/png" }));
        document.querySelector(".drop").dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true }));
        """,
        base64.b64encode(picture(COLOURS["red"])).decode(),
    )
    page.wait("[aria-labelledby=panel-classify] table tr")
    assert page.all("[aria-labelledby=panel-classify] table tr")[0].text.startswith("red ")


def test_it_can_be_used_by_keyboard_alone(page):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    def focused():
        return page.driver.switch_to.active_element.get_attribute("id")

    page.driver.execute_script("document.querySelector('#model').focus()")
    seen = []
    for _ in range(10):
        ActionChains(page.driver).send_keys(Keys.TAB).perform()
        seen.append(focused())
        if seen[-1] == "input-text":
            break
    assert seen == ["version", "input-text"]
    ActionChains(page.driver).send_keys("blue", Keys.ENTER).perform()
    assert page.captions("search_by_text")[0] == "blue.png"


def test_every_field_has_a_name(page):
    for field in page.all("input, select, button"):
        assert field.accessible_name


def test_versions_can_be_compared(page):
    page.choose("version", "1")
    page.eventually(lambda: not page.text_of("#status"))
    page.wait("#input-text")[0].send_keys("blue\n")
    assert "blue.png" not in page.captions("search_by_text")


def test_panels_follow_from_the_signatures(page):
    page.choose("model", "other")
    page.wait("#input-mood")[0].send_keys("green\n")
    assert page.captions("search_by_mood") == ["second", "first"]
    assert not page.all("#input-image")


def test_pictures_that_come_with_the_answers_are_shown(page, tmp_path):
    page.choose("model", "thumbnails")
    (tmp_path / "red.png").write_bytes(picture(COLOURS["red"]))
    page.eventually(lambda: not page.all("#input-text"))
    page.wait("#input-image")[0].send_keys(str(tmp_path / "red.png"))
    assert page.captions("search_by_image") == ["the first", EVIL]
    pictures = "return [...document.querySelectorAll('li img')].map((image) => image.naturalWidth)"
    page.eventually(lambda: page.driver.execute_script(pictures) == [6, 6])
    # The default signature is this one under another name, and not shown again.
    assert len(page.all("section")) == 1
    assert page.all("img[onerror]") == []


def test_what_fails_is_said(page, tmp_path):
    (tmp_path / "no.png").write_text("no image")
    page.all("#input-image")[0].send_keys(str(tmp_path / "no.png"))
    page.eventually(lambda: "row 0" in page.text_of("#error"))
    assert not page.all("section")
