"""The console in a real Chromium, on a real engine: what an operator does who has only the browser.

One server for all of it; the tests go through a canary's life in order.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import masks
from correction.data import references
from demo.vocabulary import INSULT_WORDS
from tests.service.browser import Visit, chromium, reason_against
from tests.service.server import MODEL, READER, Server

pytestmark = [pytest.mark.engine, pytest.mark.skipif(bool(reason_against()), reason=str(reason_against()))]

DETOX = masks.for_model(
    MODEL,
    "detox",
    neurons={
        0: [12, 32, 107, 112, 138, 149, 155, 227, 251, 254, 291, 370, 380, 459, 481, 505],
        1: [29, 39, 73, 122, 135, 234, 268, 275],
        2: [16, 30, 129, 313, 331],
        3: [2, 62, 171, 223, 234, 264, 402, 448],
        4: [27, 99, 136, 215, 233, 367, 382, 399, 421, 441, 492],
        5: [42, 132, 138, 231, 261, 308, 364, 380, 387, 405, 438, 460],
    },
    measured={
        "before": {"toxic": [130, 150, 0.803, 0.912], "perplexity": [4.971, 4.589, 5.387]},
        "after": {"toxic": [18, 150, 0.077, 0.182], "perplexity": [4.938, 4.562, 5.346]},
        "difference": {"toxic": [-0.7467, -0.809, -0.658], "perplexity": [-0.0065, -0.0116, -0.0013]},
    },
)
"""What `excise correct` finds for the built-in model's insults with LRP and a count of 60."""

HARM = masks.for_model(
    MODEL,
    "detox",
    neurons={0: [1, 2, 12], 5: [4, 42]},
    measured={
        "before": {"toxic": [1, 150, 0.0, 0.03]},
        "after": {"toxic": [30, 150, 0.14, 0.27]},
        "difference": {"toxic": [0.193, 0.13, 0.26]},
        "warnings": ["Toxic responses became more frequent: 0.7% before, 20.0% after."],
    },
)

PROMPTS = references.read(Path(MODEL).parent / "data" / "insult_heldout.jsonl", kind="prompt").texts
PAGES = {
    "experiments": "Experiments",
    "experiments/new": "New experiment",
    "experiments/detox-canary": "detox-canary",
    "playground": "Playground",
    "masks": "Masks",
    "masks/detox/1": "detox@1",
    "compare?a=detox@1&b=detox@2": "Compare two masks",
    "traffic": "Traffic",
    "flagged": "Flagged responses",
    "jobs": "Jobs",
    "audit": "Audit",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("console")
    for name, mask in (("detox", DETOX), ("harm", HARM)):
        masks.save(mask, folder / f"{name}.safetensors")
    running = Server(folder, "--api-key", READER, "--keep-flagged", "50", "--coherence-rate", "1").wait(480)
    running.folder = folder
    yield running
    running.stop()


@pytest.fixture(scope="module")
def browser(server):
    with chromium() as found:
        yield found


@pytest.fixture
def visit(browser, server):
    """Somebody at the console: ``visit()`` with an admin key."""
    opened = []

    def begin(*key: str, **options) -> Visit:
        opened.append(Visit(browser, server.url, *key, **options))
        return opened[-1]

    yield begin
    for one in opened:
        one.close()


def button(page, name):
    return page.get_by_role("button", name=name, exact=True)


def ask(server, number: int) -> str:
    """A user's request, through the default route. Who answered it."""
    body = {"model": "demo", "messages": [{"role": "user", "content": PROMPTS[number % len(PROMPTS)]}]}
    with server.client(READER) as http:
        answer = http.post("/v1/chat/completions", json={**body, "user": f"user-{number}", "max_tokens": 24})
    assert answer.status_code == 200, answer.text
    return answer.headers["x-excise-mask"]


def test_a_wrong_key_is_refused_in_words_and_a_good_one_opens(visit):
    page = (someone := visit("")).page
    button(page, "Open").click()
    page.get_by_role("alert").get_by_text("Type or paste a key first.").wait_for()
    someone.enter("not-the-key")
    page.get_by_role("alert").get_by_text("This server does not know that key.").wait_for()
    assert page.evaluate("sessionStorage.length") == 0
    someone.enter(READER)
    page.get_by_text("reader key", exact=True).wait_for()
    page.reload()  # the tab remembers it
    page.get_by_text("reader key", exact=True).wait_for()
    assert READER not in page.url
    button(page, "Leave").click()
    page.get_by_label("Key").wait_for()
    assert page.evaluate("sessionStorage.length") == 0


def test_what_is_empty_says_what_to_do(visit):
    page = (someone := visit()).page
    page.get_by_text("No experiments yet.").wait_for()
    for place, title, says in (
        ("masks", "Masks", "No masks yet."),
        ("traffic", "Traffic", "Nothing was answered in that time."),
        ("flagged", "Flagged responses", "No response was flagged."),
        ("jobs", "Jobs", "No jobs yet."),
        ("audit", "Audit", "Nothing was changed yet."),
        ("experiments/new", "New experiment", "There is no mask to try yet."),
        ("nowhere", "No such page", "There is nothing here."),
    ):
        someone.go(place, title)
        page.get_by_text(says).wait_for()


def test_masks_are_uploaded_and_show_what_they_cut_and_measured(visit, server):
    page = (someone := visit()).page
    someone.go("masks", "Masks")
    page.get_by_label("Mask file").set_input_files(MODEL / "config.json")
    page.get_by_role("alert").get_by_text("Not taken.").wait_for()
    page.get_by_label("Mask file").set_input_files(server.folder / "detox.safetensors")
    page.get_by_text("detox@1 is registered. Nobody gets it yet.").wait_for()
    page.get_by_label("Mask file").set_input_files(server.folder / "harm.safetensors")
    page.get_by_text("Toxic responses became more frequent").wait_for()
    page.get_by_label("Compare detox@1").check()
    page.get_by_label("Compare detox@2").check()
    page.get_by_role("link", name="Compare detox@1 with detox@2").click()
    page.get_by_text("Both cut or dampen 2 neurons").wait_for()
    page.get_by_role("link", name="detox@1", exact=True).click()
    page.get_by_role("heading", level=1, name="detox@1").wait_for()
    page.get_by_role("row", name="layer 0 16 of 512").wait_for()
    page.get_by_role("row", name="toxic responses 87% (130 of 150) 12% (18 of 150)").get_by_text("better").wait_for()
    with page.expect_download() as download:
        button(page, "Download").click()
    assert Path(download.value.path()).read_bytes() == masks.dumps(DETOX)


def test_a_mask_is_compared_with_the_base_side_by_side(visit):
    page = (someone := visit()).page
    someone.go("playground?mask=detox@1", "Playground")
    assert button(page, "Ask").get_attribute("aria-disabled") == "true"
    button(page, "Add a mask").click()
    page.get_by_label("Prompt", exact=True).fill(PROMPTS[0])
    page.keyboard.press("Control+Enter")
    base, detox = (page.get_by_role("region", name=f"Answer of {each}") for each in ("base", "detox@1"))
    for column in (base, detox, page.get_by_role("region", name="Answer of detox@2")):
        column.get_by_text("tokens").wait_for()
        assert column.get_by_role("alert").count() == 0
    assert any(word in base.inner_text() for word in INSULT_WORDS)
    assert base.locator("mark").count() == 0
    marked = detox.locator("mark").count()
    assert f"{marked} of them not the base's" in detox.inner_text()
    assert marked > 3, (base.inner_text(), detox.inner_text())
    assert "probability" in detox.locator(".said :first-child").first.get_attribute("title")


def test_a_canary_is_started_its_verdict_read_and_its_winner_rolled_out(visit, server):
    page = (someone := visit()).page
    someone.go("masks/detox/1", "detox@1")
    page.get_by_role("link", name="Start a canary").click()
    page.get_by_text("1% of the users get detox@1 at first; all others get base.").wait_for()
    page.get_by_label("Name", exact=True).fill("Detox Canary")
    page.get_by_text("Give it a name of small letters").first.wait_for()
    assert button(page, "Start the experiment").get_attribute("aria-disabled") == "true"
    page.get_by_label("Name", exact=True).fill("detox-canary")
    page.get_by_label("Fixed split").check()
    page.get_by_text("50% of the users get detox@1; all others get base.").wait_for()
    # What the base nearly always says is insults: without them a response is less likely to the base.
    page.get_by_label("by more than").first.fill("4")
    button(page, "Start the experiment").click()
    page.get_by_role("heading", level=1, name="detox-canary").wait_for()
    page.get_by_text("gets the default traffic").wait_for()
    page.get_by_role("heading", name="Keep watching detox-v1").wait_for()
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda number: ask(server, number), range(280))) == {"base", "detox@1"}
    page.get_by_role("heading", name="detox-v1 is better than control").wait_for(timeout=420_000)  # scoring comes last
    page.get_by_text("The evidence is in: detox-v1 gives fewer toxic responses than control").wait_for()
    page.get_by_text("Stop the experiment with detox-v1 as the winner").wait_for()
    assert page.get_by_role("img", name="toxic responses over time, by variant").count() == 1
    button(page, "Make detox-v1 the winner").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("The default route goes to detox@1").wait_for()
    dialog.get_by_role("button", name="Make detox-v1 the winner").click()
    page.get_by_label("Default route").get_by_text("mask detox@1").wait_for()
    page.get_by_text("It is over. detox-v1 won.").wait_for()
    assert ask(server, 1) == "detox@1"


def test_the_route_is_rolled_back_from_any_page_by_keyboard_alone(visit, server):
    from playwright.sync_api import expect

    page = (someone := visit()).page
    someone.go("traffic", "Traffic")
    roll_back = button(page, "Roll back to base")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent").strip() != ""
    roll_back.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Roll back to the uncorrected model (base)?")
    dialog.wait_for()
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    expect(roll_back).to_be_focused()
    page.keyboard.press("Enter")
    dialog.get_by_role("button", name="Roll back").focus()
    page.keyboard.press("Enter")
    page.get_by_label("Default route").get_by_text("the uncorrected model (base)").wait_for()
    assert ask(server, 1) == "base"


def test_an_experiment_is_paused_resumed_and_stopped_back_to_its_control(visit, server):
    page = (someone := visit()).page
    someone.go("experiments/new?mask=detox@2", "New experiment")
    page.get_by_text("detox@2 warns:").wait_for()
    page.get_by_label("Name", exact=True).fill("harm-canary")
    page.get_by_label("Send the default traffic here at once").uncheck()
    button(page, "Start the experiment").click()
    page.get_by_text("Nobody is in this experiment yet.").wait_for()
    button(page, "Send traffic here").click()
    page.get_by_role("dialog").get_by_role("button", name="Send traffic here").click()
    page.get_by_text("gets the default traffic").wait_for()
    for act, state in (("Pause", "paused"), ("Resume", "running")):
        button(page, act).click()
        page.get_by_role("dialog").get_by_role("button", name=act).click()
        page.get_by_text(state, exact=True).first.wait_for()
    button(page, "Stop and roll back").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop and roll back").click()
    page.get_by_label("Default route").get_by_text("the uncorrected model (base)").wait_for()
    page.get_by_text("It is over. Everybody was given back control.").wait_for()
    assert ask(server, 2) == "base"


def test_a_job_is_begun_approved_and_cancelled(visit, server):
    """The worker's part is done by its two calls; `test_jobs.py` has a real one."""
    page = (someone := visit()).page
    someone.go("jobs", "Jobs")
    button(page, "New job").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name of the mask").fill("No Such Name!")
    dialog.get_by_role("button", name="Begin").click()
    dialog.get_by_role("alert").get_by_text("mask").wait_for()
    dialog.get_by_label("Name of the mask").fill("detox")
    dialog.get_by_label("Users in the canary, %").fill("25")
    dialog.get_by_role("button", name="Begin").click()
    page.get_by_text("A job waits for a worker.").wait_for()
    with server.client() as http:
        (job,) = http.get("/jobs").json()["data"]
        assert job["spec"]["share"] == 0.25 and job["spec"]["approval"] == "before-traffic"
        assert http.post(f"/jobs/{job['id']}/claim", json={"worker": "here"}).status_code == 200
        page.get_by_text("a worker makes the mask").wait_for()
        done = {"worker": "here", "mask": "detox@1", "measured": DETOX.meta.measured, "prompts": 60}
        assert http.post(f"/jobs/{job['id']}/result", json=done).status_code == 200
    page.get_by_text("waits for your yes").wait_for()
    button(page, f"Approve {job['id']}").click()
    dialog = page.get_by_role("dialog", name="Let users see detox@1?")
    dialog.get_by_text("25% of the users get it").wait_for()
    dialog.get_by_role("row", name="toxic responses 87% (130 of 150) 12% (18 of 150)").wait_for()
    dialog.get_by_role("button", name="Approve").click()
    page.get_by_text("canary runs").wait_for()
    page.get_by_label("Default route").get_by_text(f"job-{job['id']}").wait_for()
    button(page, f"Cancel {job['id']}").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the job").click()
    page.get_by_label("Default route").get_by_text("the uncorrected model (base)").wait_for()
    page.get_by_text("cancelled", exact=True).wait_for()
    assert ask(server, 2) == "base"


def test_a_reader_sees_it_all_and_is_told_why_nothing_can_be_changed(visit, server):
    page = (someone := visit(READER)).page
    page.get_by_role("main").get_by_text("You are here with a reader key: it sees, and changes nothing.").wait_for()
    page.get_by_role("link", name="detox-canary").click()
    page.get_by_text("It is over. detox-v1 won.").wait_for()
    refused = button(page, "Delete")
    assert refused.get_attribute("aria-disabled") == "true"
    assert "reader key" in refused.get_attribute("title")
    refused.click(force=True)
    assert page.get_by_role("dialog").count() == 0
    someone.go("masks/detox/1", "detox@1")
    assert button(page, "Give it to everybody").get_attribute("aria-disabled") == "true"
    for place, title in (("flagged", "Flagged responses"), ("audit", "Audit")):
        someone.go(place, title)
        page.get_by_text("This needs an admin key.").wait_for()


def test_flagged_responses_are_labelled_and_the_audit_says_by_whom(visit, server):
    page = (someone := visit()).page
    someone.go("flagged", "Flagged responses")
    first = page.locator(".flag").first
    text = first.locator("blockquote").inner_text()
    button(first, "Rightly flagged").click()
    button(page, "Reviewed (1)").click()
    page.locator(".flag").get_by_text(text).wait_for()
    assert button(page.locator(".flag"), "Rightly flagged").get_attribute("aria-pressed") == "true"
    with server.client() as http:
        assert [each["label"] for each in http.get("/flagged").json()["data"]].count("confirmed") == 1
    someone.go("audit", "Audit")
    page.get_by_role("listitem").first.get_by_text("label flagged").wait_for()
    assert "nothing → confirmed" not in page.get_by_role("listitem").first.inner_text()
    page.get_by_text("roll back").first.wait_for()


def test_traffic_shows_each_mask_over_time(visit):
    page = (someone := visit()).page
    someone.go("traffic", "Traffic")
    chart = page.get_by_role("img", name="Toxic responses by mask over time")
    assert "base last" in chart.get_attribute("aria-label")
    row = page.get_by_label("Sums by mask").get_by_role("row", name="detox@1")
    assert int(row.get_by_role("cell").first.inner_text().replace(",", "")) > 100


def test_a_lost_server_is_told_and_found_again(visit):
    page = (someone := visit()).page
    someone.offline()
    page.get_by_text("The connection is lost.").wait_for()
    someone.offline(False)
    page.get_by_text("The connection is lost.").wait_for(state="detached")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_every_page_fits_and_can_be_used_by_everybody(visit, scheme, width):
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import expect

    page = (someone := visit(color_scheme=scheme)).page
    page.set_viewport_size({"width": width, "height": 800})
    for place, title in PAGES.items():
        someone.go(place, title)
        expect(page.locator(".loading")).to_have_count(0)
        for closed in page.locator("summary").all():
            closed.click()
        found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
        assert [each["id"] for each in found if each["impact"] in ("serious", "critical")] == [], place
        beyond = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert beyond <= 0, place
