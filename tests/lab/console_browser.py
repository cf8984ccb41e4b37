#!/usr/bin/env python3
"""The console's pages in a real browser: axe-core finds nothing serious at two widths, light and dark, in both languages;
they work with the keyboard alone and with scripts off; nothing hangs over the edge of a telephone. Screenshots are kept with
TRIVET_SCREENSHOTS=FOLDER (`docs/console`)."""
import json, os, subprocess, sys, tempfile, time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from browser import Browser, axe_source
from cluster import Cluster
from console import PAGES, incidents, trivet, until

SERIOUS = {"serious", "critical", "error"}
WIDE, NARROW = (1280, 900), (360, 800)


def name_of(path):
    if "?" in path:
        return "files"
    first, _, rest = path.strip("/").partition("/")
    return (first.rstrip("s") if rest else first) or "overview"


def sign_in(browser, c, node):
    link = trivet(c, "account", "link").stdout.strip()
    base, code = link.split("/login?code=")
    browser.open(link)
    assert browser.run("return document.querySelector('form[action=\"/logout\"]') !== null"), "the link did not sign in"
    return base


def look(c, base_of, pages, folder):
    """Every page in every dress."""
    source, found, pictures = axe_source(), [], 0
    for language in ("en", "zh"):
        for dark in (False, True):
            with Browser(dark=dark, language="zh-CN" if language == "zh" else "en") as b:
                b.size(*WIDE)
                base = sign_in(b, c, None)
                assert b.run("return matchMedia('(prefers-color-scheme: dark)').matches") == dark
                for width, height in (WIDE, NARROW):
                    b.size(width, height)
                    for path in pages:
                        b.open(base + path)
                        # Details are part of the page.
                        b.run("document.querySelectorAll('details').forEach(d => d.open = false)")
                        dress = "%s %s %s %d" % (path, language, "dark" if dark else "light", width)
                        assert b.run("return document.documentElement.lang").startswith(language), dress
                        over = b.run("return document.documentElement.scrollWidth - window.innerWidth")
                        assert over <= 0, "%s: the page is %d pixels wider than the window" % (dress, over)
                        if folder:
                            shot = "%s-%s-%s-%d.png" % (name_of(path), language, "dark" if dark else "light", width)
                            b.picture(os.path.join(folder, shot), 1500 if width == WIDE[0] else 2200)
                            pictures += 1
                        b.run("document.querySelectorAll('details').forEach(d => d.open = true)")
                        for impact, rule, places in b.audit(source):
                            if impact in SERIOUS:
                                found.append((dress, impact, rule, len(places), places[:2]))
    for f in found[:30]:
        print(*f)
    assert not found, "axe-core: %d serious findings" % len(found)
    print("axe-core: nothing serious on %d pages at 2 widths, light and dark, in 2 languages; %d pictures" % (len(pages), pictures))


def keyboard(c):
    """From the top of the page: skip link, navigation, and a form that is sent by Enter."""
    with Browser() as b:
        b.size(*WIDE)
        base = sign_in(b, c, None)
        b.open(base + "/")
        b.press("\ue004")
        assert b.run("return document.activeElement.className") == "skip"
        b.press("\ue007")
        assert b.run("return location.hash") == "#main"
        b.open(base + "/")
        seen = []
        for _ in range(12):
            b.press("\ue004")
            seen.append(b.run("return document.activeElement.getAttribute('href')"))
            outline = b.run("const s = getComputedStyle(document.activeElement); return s.outlineStyle + ' ' + s.outlineWidth")
            assert not outline.startswith("none") and not outline.endswith(" 0px"), (seen, outline)
        assert [p for p in seen if p in PAGES] == PAGES, seen
        b.open(base + "/alerts?text=zzzz")
        b.run("document.querySelector('input[name=text]').focus()")
        b.press("\ue007")
        assert b.run("return document.querySelectorAll('main table tbody tr td').length >= 0")
        assert "text=zzzz" in b.run("return location.search")
    print("keyboard alone: skip link, navigation with a visible focus, a form")


def without_scripts(c, pages):
    with Browser(scripts=False) as b:
        b.size(*NARROW)
        base = "http://127.0.0.1:8088"
        for path in pages:
            b.open(base + path)
            dom = b.command("DOM.getDocument", depth=-1)["root"]
            html = b.command("DOM.getOuterHTML", nodeId=dom["nodeId"])["outerHTML"]
            assert "<h1>" in html and " UTC</time>" in html or path in ("/network", "/settings", "/datastores", "/nodes", "/incidents", "/alerts"), (path, html[:300])
    print("scripts off: every page says the same")


def renews(c):
    """A page that is open shows what changes, by itself, and keeps what a person has open."""
    with Browser() as b:
        b.size(*WIDE)
        b.open("http://127.0.0.1:8088/")
        b.run("document.getElementById('ribbon-table').open = true; window.kept = 1")
        first = b.run("return document.querySelector('main').textContent")
        end = time.time() + 30
        while b.run("return document.querySelector('main').textContent") == first:
            assert time.time() < end, "the page did not renew itself"
            time.sleep(0.5)
        assert b.run("return document.getElementById('ribbon-table').open && window.kept === 1"), "it was loaded anew"
    print("an open page renews itself and keeps what is unfolded")


def main():
    folder = os.environ.get("TRIVET_SCREENSHOTS")
    if folder:
        os.makedirs(folder, exist_ok=True)
    with Cluster("--restart", "never") as c:
        c.wait("all nodes", lambda n: n if c.all_ready(n) else None)
        # A node dies, so that the pages have something to say.
        lead = c.leaders()[1]
        down = next(n for n in (3, 2) if n != lead)
        c.kill(down)
        found = until("the incident", lambda: [i for i in incidents(c) if i["likely"]["best"]], 60)
        alert = until("the alert", lambda: [a for a in json.loads(trivet(c, "alerts", "--active", "--json").stdout)["alerts"] if a["rule"] == "NODE_DOWN"], 40)[0]
        pages = PAGES + ["/login", "/incidents/" + found[0]["id"], "/alerts/" + alert["fingerprint"], "/datastores?path=/ds1"]
        look(c, None, pages, folder)
        keyboard(c)
        without_scripts(c, PAGES)
        renews(c)


if __name__ == "__main__":
    main()
