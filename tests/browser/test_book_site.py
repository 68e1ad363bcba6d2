"""The built book in a browser: from a folder and from a sub-folder of a host, without a network."""

import functools
import http.server
import threading

import book
import pytest
from axe_playwright_python.sync_playwright import Axe
from live import PATIENCE, ROOT

pytestmark = pytest.mark.slow
PHONE, WIDE = {"width": 390, "height": 844}, {"width": 1400, "height": 950}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("host")
    out = folder / "of" / "a" / "course"
    out.mkdir(parents=True)
    assert book.build(ROOT, out) == []
    return folder, out


@pytest.fixture(scope="module")
def host(site):
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    class Server(http.server.ThreadingHTTPServer):
        request_queue_size = 128  # a page asks for all its parts at once

    server = Server(("127.0.0.1", 0), functools.partial(Handler, directory=site[0]))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/of/a/course"
    server.shutdown()


@pytest.fixture(params=["a folder", "a host"])
def base(request, site, host):
    return site[1].as_uri() if request.param == "a folder" else host


@pytest.fixture
def opened(browser, request):
    """What opens a page; at the end nothing was said in the console and nothing asked elsewhere."""
    contexts, wrong = [], []

    def open_page(address, viewport=WIDE, **options):
        context = browser.new_context(viewport=viewport, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        home = address.rsplit("/", 1)[0]
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        if options.get("java_script_enabled", True):  # else scripts are looked up and given up
            page.on("requestfailed", lambda asked: wrong.append(f"failed: {asked.url}"))
        page.on(
            "request",
            lambda asked: (
                None if asked.url.startswith((home, "data:", "blob:")) else wrong.append(asked.url)
            ),
        )
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def overflow(page):
    return page.evaluate("document.documentElement.scrollWidth - innerWidth")


def test_the_first_page_lives(base, opened):
    page = opened(f"{base}/index.html")
    page.locator(".compgpt-live[data-live]").first.wait_for()
    chart = page.locator(".chart")
    chart.scroll_into_view_if_needed()
    chart.and_(page.locator("[data-live]")).wait_for()
    assert chart.locator("svg.main-svg").count() and not chart.locator("> img").is_visible()
    chart.get_by_text("training time", exact=True).click()
    page.locator(".xtitle", has_text="training time (ms a step)").wait_for()


def test_search_finds_a_word_and_the_theme_is_kept(base, opened):
    page = opened(f"{base}/glossary.html", color_scheme="light")
    theme = "document.documentElement.dataset.theme"
    assert page.evaluate(theme) == "light"
    page.locator("button.theme-switch-button:visible").click()
    page.locator("button.theme-change-button[data-mode=dark]:visible").click()
    assert page.evaluate(theme) == "dark"
    page.locator("button.search-button__button:visible").first.click()
    page.locator("#pst-search-dialog input").fill("Witten")
    page.keyboard.press("Enter")
    first = page.locator("ul.search li a").first
    first.wait_for()
    assert page.evaluate(theme) == "dark"
    first.click()
    page.locator("article", has_text="Witten").wait_for()


def test_next_and_before_go_through_all_pages(base, opened):
    page = opened(f"{base}/index.html", java_script_enabled=False)
    names = []
    while (link := page.locator("a.right-next")).count():
        names.append(link.get_attribute("href"))
        page.goto(f"{base}/{names[-1]}")
    assert [name[:2] for name in names[:13]] == [f"{number:02}" for number in range(13)]
    assert names[13:] == ["glossary.html", "elsewhere.html", *MODEL_CARDS, *REST]
    page.locator("a.left-prev").click()
    assert page.url.endswith(names[-2])


MODEL_CARDS = [f"model-{name}.html" for name in ("gpt", "p-gpt", "lc-gpt", "cc-gpt")]
REST = ["data.html", "benchmarks.html"]


def test_a_page_without_scripts_has_pictures_formulas_and_folded_answers(site, opened):
    page = opened(f"{site[1].as_uri()}/03_gpt.html", java_script_enabled=False)
    assert page.locator(".chart > img").count() == 7 and page.locator("math").count() > 5
    for picture in page.locator("article img").all():
        picture.scroll_into_view_if_needed()
        assert picture.evaluate("node => node.naturalWidth || node.loading === 'lazy'")
    setup = page.locator("details.source", has_text="Set-up")
    assert not setup.locator("pre").is_visible()
    setup.locator("summary").click()
    assert setup.locator("pre").is_visible()
    answer = page.locator("article details", has=page.get_by_text("Answer", exact=True)).first
    answer.locator("summary").click()
    assert answer.locator("p").first.is_visible()
    assert not page.locator(".theme-switch-button").first.is_visible()  # it would do nothing


def test_print_has_the_pictures_and_no_menus(site, opened):
    page = opened(f"{site[1].as_uri()}/03_gpt.html")
    chart = page.locator(".chart").first
    chart.scroll_into_view_if_needed()
    chart.and_(page.locator("[data-live]")).wait_for()
    page.emulate_media(media="print")
    assert chart.locator("> img").is_visible() and not chart.locator(".figure").is_visible()
    for menu in (".bd-sidebar-primary", ".bd-header-article", ".prev-next-footer", ".bd-toc nav"):
        assert not page.locator(menu).first.is_visible(), menu
    assert page.pdf(format="A4").count(b"/Type /Page\n") > 5


@pytest.mark.parametrize("name", ["index", "02_attention_and_the_block", "08_comparison", "data"])
def test_on_a_phone_nothing_is_wider_than_the_screen(site, opened, name):
    page = opened(f"{site[1].as_uri()}/{name}.html", PHONE, has_touch=True)
    for chart in page.locator(".chart").all()[:4]:
        chart.scroll_into_view_if_needed()
        chart.and_(page.locator("[data-live]")).wait_for()
    assert overflow(page) <= 0
    page.locator("button.primary-toggle:visible").first.click()
    page.locator("#pst-primary-sidebar-modal a", has_text="05 · p-gpt").click()
    page.wait_for_url("**/05_p_gpt.html")


@pytest.mark.parametrize(
    ("name", "looks"),
    [
        ("index", ("phone light", "phone dark", "wide light", "wide dark")),
        ("03_gpt", ("phone dark", "wide light")),
        ("05_p_gpt", ("phone dark",)),
        ("06_lc_gpt", ("phone light", "wide dark")),
        ("glossary", ("phone light", "wide dark")),
    ],
)
def test_axe_has_no_serious_finding(site, opened, name, looks):
    for size, scheme in (look.split() for look in looks):
        page = opened(
            f"{site[1].as_uri()}/{name}.html",
            {"phone": PHONE, "wide": WIDE}[size],
            color_scheme=scheme,
        )
        for figure in page.locator(".compgpt-live").all():
            figure.scroll_into_view_if_needed()
            figure.locator(".cg-view[data-ready]:not([data-waiting])").wait_for()
        page.wait_for_timeout(500)
        found = Axe().run(page, options={"preload": False}).response["violations"]
        serious = [one for one in found if one["impact"] in ("serious", "critical")]
        said = [(one["id"], one["nodes"][0]["html"][:200]) for one in serious]
        assert not said, (size, scheme, said)
