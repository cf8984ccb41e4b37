"""A real browser for lab tests: Debian's chromium, spoken to by the WebDriver protocol, and axe-core in its pages."""
import base64, importlib.util, json, os, socket, subprocess, time, urllib.error, urllib.request


def axe_source():
    """axe-core as the Python package axe-playwright-python carries it; the package's own code is not used."""
    found = importlib.util.find_spec("axe_playwright_python")
    assert found, "axe-core is missing: pip install --no-deps axe-playwright-python"
    with open(os.path.join(found.submodule_search_locations[0], "axe.min.js"), encoding="utf-8") as f:
        return f.read()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Browser:
    """`dark`: what the pages' media query sees; `scripts`: whether pages may run any."""

    def __init__(self, dark=False, scripts=True, language="en"):
        self.port = free_port()
        self.driver = subprocess.Popen(["chromedriver", "--port=%d" % self.port, "--silent"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.base = "http://127.0.0.1:%d" % self.port
        self.wait_for_driver()
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
                     "--force-device-scale-factor=1", "--disable-background-networking", "--no-first-run", "--lang=" + language]
        if dark:
            arguments.append("--blink-settings=preferredColorScheme=0")
        preferences = {"intl.accept_languages": language}
        if not scripts:
            preferences["profile.managed_default_content_settings.javascript"] = 2
        options = {"args": arguments, "prefs": preferences}
        wanted = {"capabilities": {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}}
        self.session = self.call("POST", "/session", wanted)["sessionId"]
        self.call("POST", self.path("timeouts"), {"script": 60000, "pageLoad": 60000, "implicit": 0})

    def wait_for_driver(self):
        end = time.time() + 30
        while True:
            try:
                if self.call("GET", "/status")["ready"]:
                    return
            except OSError:
                if time.time() > end:
                    raise
            time.sleep(0.1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.call("DELETE", "/session/" + self.session)
        finally:
            self.driver.terminate()
            self.driver.wait(10)

    def path(self, rest):
        return "/session/%s/%s" % (self.session, rest)

    def call(self, method, path, body=None):
        data = json.dumps(body).encode() if body is not None else None
        r = urllib.request.Request(self.base + path, data=data, method=method, headers={"content-type": "application/json"})
        try:
            with urllib.request.urlopen(r, timeout=90) as a:
                return json.load(a)["value"]
        except urllib.error.HTTPError as e:
            raise AssertionError("%s %s: %s" % (method, path, e.read().decode()[:500]))

    def command(self, name, **parameters):
        """A command of the browser's own protocol."""
        return self.call("POST", self.path("goog/cdp/execute"), {"cmd": name, "params": parameters})

    def size(self, width, height):
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def open(self, url):
        self.call("POST", self.path("url"), {"url": url})

    def run(self, script, *arguments):
        return self.call("POST", self.path("execute/sync"), {"script": script, "args": list(arguments)})

    def run_async(self, script, *arguments):
        return self.call("POST", self.path("execute/async"), {"script": script, "args": list(arguments)})

    def press(self, key, times=1):
        actions = [{"type": kind, "value": key} for _ in range(times) for kind in ("keyDown", "keyUp")]
        self.call("POST", self.path("actions"), {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def picture(self, path, height_max):
        """The whole page, down to a height."""
        height = min(height_max, self.run("return Math.ceil(document.documentElement.scrollHeight)"))
        width = self.run("return window.innerWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        data = self.command("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)["data"]
        with open(path, "wb") as f:
            f.write(base64.b64decode(data))

    def audit(self, source):
        """The findings of axe-core by the rules of WCAG 2.2 A and AA: (impact, rule, places)."""
        self.run(source)
        found = self.run_async("""
            const done = arguments[arguments.length - 1];
            const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
            axe.run(document, { runOnly: { type: 'tag', values: tags }, resultTypes: ['violations'] })
               .then(r => done(r.violations.map(v => [v.impact, v.id, v.nodes.map(n => n.html.slice(0, 160))])), e => done([['error', String(e), []]]));
        """)
        return found
