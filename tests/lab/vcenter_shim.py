"""A vCenter for the lab: Debian's vcsim, and before it a proxy that speaks TLS and answers what vcsim lacks.

What the proxy adds follows vSphere's API documentation: mount information of datastores (`Datastore.host`), the hosts'
own mount tables (`HostStorageSystem.fileSystemVolumeInfo`), `configIssue` for too few heartbeat datastores,
`RetrieveDasAdvancedRuntimeInfo`, routes (`UpdateIpRouteTableConfig`), refused logins, sessions that expire, faults and delays on demand. Everything else is
vcsim's."""
import datetime, http.client, http.server, os, re, socket, ssl, subprocess, threading, time, urllib.parse
import urllib.request
import sys
from xml.sax.saxutils import escape

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "night"))
import lablib  # noqa: E402
CACHE = os.path.join(HERE, "cache")
GO = "/usr/lib/go-1.19/bin/go"
ENVELOPE = ('<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" '
            'xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
            '<soapenv:Body>%s</soapenv:Body></soapenv:Envelope>')
XSI = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xsd="http://www.w3.org/2001/XMLSchema"'
HEARTBEAT = "com.vmware.vc.HA.HeartbeatDatastoreNotSufficient"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def certificate(folder, name="vc"):
    """A self-signed certificate with a 2048-bit key; Go's built-in one has 1024 bits, which TLS libraries refuse."""
    key, cert = os.path.join(folder, name + ".key"), os.path.join(folder, name + ".pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "30",
                    "-subj", "/CN=" + name, "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"], check=True, capture_output=True)
    return key, cert


def thumbprint(cert):
    out = subprocess.run(["openssl", "x509", "-in", cert, "-noout", "-fingerprint", "-sha256"], capture_output=True, text=True, check=True)
    return out.stdout.strip().split("=")[1]


def build(cache):
    """vcsim from Debian's package, once."""
    binary, source = os.path.join(cache, "vcenter-sim"), os.path.join(HERE, "vcenter_sim", "main.go")
    if not os.path.exists(binary) or os.path.getmtime(binary) < os.path.getmtime(source):
        os.makedirs(cache, exist_ok=True)
        env = dict(os.environ, GO111MODULE="off", GOPATH="/usr/share/gocode", GOCACHE=os.path.join(cache, "go-build"))
        subprocess.run([GO, "build", "-o", binary, "."], cwd=os.path.dirname(source), env=env, check=True)
    return binary


class Serve(http.server.ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, *_):
        pass  # a client that hangs up is no trouble of the test's


def tls_server(handler, key, cert, address="127.0.0.1"):
    server = Serve((address, 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    return server


def started(server):
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


class Sim:
    """vcsim in a folder that has a directory for each datastore, as its CreateNasDatastore wants it."""

    def __init__(self, folder, datastores, esx=False):
        self.work = os.path.join(folder, "vcsim")
        os.makedirs(self.work)
        for name in datastores:
            os.makedirs(os.path.join(self.work, name))
        self.port, self.control = free_port(), free_port()
        command = [build(CACHE), "-l", "127.0.0.1:%d" % self.port, "-control", "127.0.0.1:%d" % self.control]
        self.log = open(os.path.join(folder, "vcsim.log"), "wb")
        self.process = subprocess.Popen(command + (["-esx"] if esx else []), cwd=self.work, stdout=self.log, stderr=self.log)
        end = time.time() + 20
        while time.time() < end:
            try:
                socket.create_connection(("127.0.0.1", self.control), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise AssertionError("vcsim did not start: " + open(self.log.name).read())

    def lose(self, host, datastore):
        form = urllib.parse.urlencode({"host": host, "datastore": datastore})
        urllib.request.urlopen("http://127.0.0.1:%d/lose?%s" % (self.control, form)).read()

    def stop(self):
        self.process.kill()
        self.process.wait()


def fault(kind, fields="", text=""):
    detail = '<%sFault xmlns="urn:vim25" xsi:type="%s">%s</%sFault>' % (kind, kind, fields, kind)
    return 500, ENVELOPE % ("<soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>%s</faultstring><detail>%s</detail></soapenv:Fault>" % (text, detail))


class Shim:
    """The proxy. Its knobs are attributes; tests turn them."""

    def __init__(self, folder, datastores, user="agent", password="geheim", esx=False):
        self.sim = Sim(folder, datastores, esx)
        self.key, self.cert = certificate(folder)
        self.user, self.password = user, password
        self.logins, self.refused = 0, 0      # attempts, and those that were refused
        self.expired = set()                  # sessions that were ended from outside
        self.sessions = set()
        self.faults = {}                      # method -> list of (kind, text), one a call
        self.delays = {}                      # method -> seconds
        self.reported = []                    # (time, host, type, text) of events
        self.inaccessible = {}                # (host, datastore) -> reason
        self.hidden = set()                   # (host, datastore): vCenter does not show what the host has
        self.readonly = set()
        self.versions = {}                    # (host, datastore) -> NFS41
        self.issue_after = 2.0                # HA looks at its heartbeat datastores this often
        self.issues = {}                      # host -> since when it has too few
        self.options = {}                     # advanced options of vSphere HA
        self.calls = []                       # (time, method)
        self.addresses = {}                   # host -> address of its VMkernel interface
        self.refuse_removals = 0              # so many routes that are to be removed next stay
        self.routes = {}                      # host -> [(network, prefix length, gateway)]
        self.on_routes = lambda host, routes: None
        self.others = []
        self.server = started(tls_server(self.handler(), self.key, self.cert))
        self.port = self.server.server_address[1]
        self.url = "https://127.0.0.1:%d" % self.port

    def listen_in(self, namespace, address):
        """Answers at an address of another network namespace, too; returns the port."""
        made = []

        def make():
            lablib.setns(namespace)
            made.append(tls_server(self.handler(), self.key, self.cert, address))
        # A thread has the namespace of the one that started it: this one only binds the address, and those that answer reach vcsim.
        thread = threading.Thread(target=make)
        thread.start()
        thread.join(10)
        self.others.append(started(made[0]))
        return made[0].server_address[1]

    def stop(self):
        for server in [self.server] + self.others:
            server.shutdown()
        self.sim.stop()

    def handler(shim):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                code, text, cookies = shim.answer(body, self.headers.get("Cookie", ""))
                data = text.encode()
                self.send_response(code)
                self.send_header("Content-Type", "text/xml; charset=utf-8")
                self.send_header("Content-Length", str(len(data)))
                for c in cookies:
                    self.send_header("Set-Cookie", c)
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self):  # pyVmomi asks for the versions of the API
                connection = http.client.HTTPConnection("127.0.0.1", shim.sim.port, timeout=30)
                connection.request("GET", self.path)
                r = connection.getresponse()
                data = r.read()
                self.send_response(r.status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
        return Handler

    def forward(self, body, cookie):
        connection = http.client.HTTPConnection("127.0.0.1", self.sim.port, timeout=60)
        headers = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": "urn:vim25/6.5"}
        if cookie:
            headers["Cookie"] = cookie
        connection.request("POST", "/sdk", body.encode(), headers)
        r = connection.getresponse()
        text = r.read().decode()
        cookies = [v for k, v in r.getheaders() if k.lower() == "set-cookie"]
        connection.close()
        return r.status, text, cookies

    def answer(self, body, cookie):
        method = re.search(r"<(?:\w+:)?Body[^>]*>\s*<(?:\w+:)?(\w+)", body).group(1)
        self.calls.append((time.time(), method))
        time.sleep(self.delays.get(method, 0))
        if method == "Login":
            self.logins += 1
            text = lambda name: re.search("<%s[^>]*>([^<]*)</%s>" % (name, name), body).group(1)
            if (text("userName"), text("password")) != (escape(self.user), escape(self.password)):
                self.refused += 1
                return fault("InvalidLogin", text="Cannot complete login due to an incorrect user name or password.") + ([],)
        elif cookie in self.expired and method != "RetrieveServiceContent":
            return fault("NotAuthenticated", '<object type="Folder">group-d1</object><privilegeId>System.View</privilegeId>') + ([],)
        if self.faults.get(method):
            kind, text = self.faults[method].pop(0)
            return fault(kind, text=text) + ([],)
        if method == "RetrieveDasAdvancedRuntimeInfo":
            return 200, self.heartbeats(), []
        if method == "QueryEvents" and "esx.problem." in body:  # vcsim compares types of objects, and not their eventTypeId
            return 200, self.host_events(body), []
        if method == "UpdateIpRouteTableConfig":
            return self.update_routes(body) + ([],)
        code, text, cookies = self.forward(body, cookie)
        if method == "Login":
            self.sessions.update(c.split(";")[0] for c in cookies)
        if code == 200 and "RetrieveProp" in method:
            text = self.patch(body, text)
        if code == 200 and method == "Fetch":  # how pyVmomi reads a property
            text = self.patch_fetch(body, text)
        if code == 200 and method == "RefreshStorageSystem":
            self.hidden.clear()
        return code, text, cookies

    def update_routes(self, body):
        """As HostNetworkSystem documents it: each operation in turn; what is there cannot be added, what is not cannot be removed."""
        system = re.search(r"<_this[^>]*>([^<]*)</_this>", body).group(1)
        name = next(re.sub("<[^>]*>", "", p["name"]) for p in self.view("HostSystem", ["name", "configManager.networkSystem"]).values()
                    if re.sub("<[^>]*>", "", p["configManager.networkSystem"]) == system)
        routes = list(self.routes.get(name, []))
        for operation, network, prefix, gateway in re.findall(
                r"<changeOperation>(\w+)</changeOperation><route><network>([^<]*)</network><prefixLength>(\d+)</prefixLength><gateway>([^<]*)</gateway>", body):
            route = (network, prefix, gateway)
            refused = operation == "remove" and self.refuse_removals > 0
            if refused:
                self.refuse_removals -= 1
            if refused or (operation == "add") == (route in routes):
                # Earlier changes stay.
                self.routes[name] = routes
                self.on_routes(name, routes)
                return fault("PlatformConfigFault", text="Operation failed, diagnostics report: Unable to %s route" % operation)
            (routes.append if operation == "add" else routes.remove)(route)
        self.routes[name] = routes
        self.on_routes(name, routes)
        return 200, ENVELOPE % '<UpdateIpRouteTableConfigResponse xmlns="urn:vim25"></UpdateIpRouteTableConfigResponse>'

    def expire(self):
        self.expired |= self.sessions

    # The state of vcsim, asked by the proxy itself.

    def raw(self, method, inner):
        _, text, cookies = self.forward(ENVELOPE % ('<Login xmlns="urn:vim25"><_this type="SessionManager">SessionManager</_this><userName>s</userName><password>s</password></Login>'), "") if not getattr(self, "cookie", None) else (0, "", [])
        if cookies:
            self.cookie = cookies[0].split(";")[0]
        return self.forward(ENVELOPE % ('<%s xmlns="urn:vim25">%s</%s>' % (method, inner, method)), self.cookie)[1]

    def view(self, kind, paths):
        text = self.raw("CreateContainerView", '<_this type="ViewManager">ViewManager</_this><container type="Folder">group-d1</container><type>%s</type><recursive>true</recursive>' % kind)
        view = re.search(r"<returnval[^>]*>([^<]+)<", text).group(1)
        paths = "".join("<pathSet>%s</pathSet>" % p for p in paths)
        spec = ('<specSet><propSet><type>%s</type>%s</propSet><objectSet><obj type="ContainerView">%s</obj><skip>true</skip>'
                '<selectSet xsi:type="TraversalSpec"><name>v</name><type>ContainerView</type><path>view</path></selectSet></objectSet></specSet><options/>' % (kind, paths, view))
        text = self.raw("RetrievePropertiesEx", '<_this type="PropertyCollector">propertyCollector</_this>' + spec)
        self.raw("DestroyView", '<_this type="ContainerView">%s</_this>' % view)
        found = {}
        for block in re.findall(r"<objects>(.*?)</objects>", text, re.S):
            moref = re.search(r"<obj[^>]*>([^<]*)</obj>", block).group(1)
            found[moref] = dict(re.findall(r"<propSet><name>([^<]*)</name>(<val.*?</val>)</propSet>", block, re.S))
        return found

    def world(self):
        """Hosts by reference: name, storage system, datastores; and NFS datastores by reference: name, server, path."""
        stores = {}
        for ref, p in self.view("Datastore", ["name", "info"]).items():
            nas = re.search(r"<remoteHost>([^<]*)</remoteHost><remotePath>([^<]*)</remotePath>", p.get("info", ""))
            if nas:
                stores[ref] = (re.sub("<[^>]*>", "", p["name"]), nas.group(1), nas.group(2))
        hosts = {}
        for ref, p in self.view("HostSystem", ["name", "datastore", "configManager.storageSystem"]).items():
            has = [d for d in re.findall(r'<ManagedObjectReference[^>]*>([^<]*)<', p.get("datastore", "")) if d in stores]
            hosts[ref] = (re.sub("<[^>]*>", "", p["name"]), re.sub("<[^>]*>", "", p["configManager.storageSystem"]), has)
        return hosts, stores

    def host_events(self, request):
        """As EventManager documents it: the events of the types in the filter, from its begin on."""
        wanted = set(re.findall(r"<eventTypeId>([^<]*)</eventTypeId>", request))
        begin = re.search(r"<beginTime>([^<]*)</beginTime>", request).group(1)[:19]
        refs = {name: ref for ref, (name, _, _) in self.world()[0].items()}
        events = "".join(
            '<returnval xsi:type="EventEx" %s><key>%d</key><chainId>%d</chainId><createdTime>%sZ</createdTime><userName></userName>'
            '<host><name>%s</name><host type="HostSystem">%s</host></host><fullFormattedMessage>%s</fullFormattedMessage>'
            '<eventTypeId>%s</eventTypeId></returnval>' % (XSI, n, n, at, escape(name), refs[name], escape(text), kind)
            for n, (at, name, kind, text) in enumerate(self.reported) if kind in wanted and at >= begin)
        return ENVELOPE % ('<QueryEventsResponse xmlns="urn:vim25">%s</QueryEventsResponse>' % events)

    def report(self, host, kind, text):
        """An event of a host, now."""
        self.reported.append((datetime.datetime.utcnow().strftime("%Y-%m-%dT%H:%M:%S"), host, kind, text))

    def heartbeats(self):
        hosts, stores = self.world()
        infos = ""
        for ds in stores:
            users = [h for h, (name, _, has) in hosts.items() if ds in has and (name, stores[ds][0]) not in self.inaccessible]
            if len(users) > 1:  # vSphere HA takes datastores that more than one host has
                infos += '<heartbeatDatastoreInfo><datastore type="Datastore">%s</datastore>%s</heartbeatDatastoreInfo>' % (
                    escape(ds), "".join('<hosts type="HostSystem">%s</hosts>' % h for h in users))
        return ENVELOPE % ('<RetrieveDasAdvancedRuntimeInfoResponse xmlns="urn:vim25"><returnval><dasHostInfo/>%s</returnval></RetrieveDasAdvancedRuntimeInfoResponse>' % infos)

    def patch_fetch(self, request, reply):
        this = re.search(r'<_this [^>]*?type="(\w+)"[^>]*>([^<]*)</_this>', request)
        path = re.search(r"<prop[^>]*>([^<]*)</prop>", request).group(1)
        added = self.added()
        kind, ref = this.group(1), this.group(2).replace("&amp;", "&")
        value = added[kind](ref).get(path) if kind in added else None
        if value is None:
            return reply
        return ENVELOPE % ('<FetchResponse xmlns="urn:vim25">%s</FetchResponse>' % re.sub(r"^<val(.*)</val>$", r"<returnval\1</returnval>", value, flags=re.S))

    def added(self):
        """By type of object: a function from a reference to the properties that vcsim lacks."""
        hosts, stores = self.world()

        def host(ref):
            name, _, has = hosts[ref]
            few = len(has) < 2
            since = self.issues.setdefault(ref, time.time()) if few else self.issues.pop(ref, None)
            standing = few and time.time() - since >= self.issue_after
            issue = ""
            if standing:
                now = datetime.datetime.utcnow().strftime("%Y-%m-%dT%H:%M:%SZ")
                issue = ('<Event xsi:type="EventEx"><key>1</key><chainId>1</chainId><createdTime>%s</createdTime><userName></userName>'
                         '<fullFormattedMessage>（%s）主机的 vSphere HA 检测信号数据存储数目 %d 少于要求数目 2</fullFormattedMessage>'
                         '<eventTypeId>%s</eventTypeId></Event>' % (now, escape(name), len(has), HEARTBEAT))
            out = {"configIssue": '<val xsi:type="ArrayOfEvent" %s>%s</val>' % (XSI, issue),
                   "runtime.dasHostState": '<val xsi:type="ClusterDasFdmHostState" %s><state>%s</state></val>' % (XSI, "master" if ref == min(hosts) else "connectedToMaster")}
            table = "".join("<ipRoute><network>%s</network><prefixLength>%s</prefixLength><gateway>%s</gateway></ipRoute>" % r for r in self.routes.get(name, []))
            if name in self.addresses:
                out["config.network.vnic"] = ('<val xsi:type="ArrayOfHostVirtualNic" %s><HostVirtualNic><device>vmk1</device><key>k</key><portgroup></portgroup>'
                                              '<spec><ip><dhcp>false</dhcp><ipAddress>%s</ipAddress></ip></spec></HostVirtualNic></val>' % (XSI, self.addresses[name]))
            out["config.network.routeTableInfo"] = '<val xsi:type="HostIpRouteTableInfo" %s>%s</val>' % (XSI, table)
            shown = [d for d in has if (name, stores[d][0]) not in self.hidden]
            if shown != has:
                out["datastore"] = '<val xsi:type="ArrayOfManagedObjectReference" %s>%s</val>' % (
                    XSI, "".join('<ManagedObjectReference type="Datastore" xsi:type="ManagedObjectReference">%s</ManagedObjectReference>' % escape(d) for d in shown))
            return out

        def datastore(ref):
            if ref not in stores:
                return {}
            name = stores[ref][0]
            mounts = ""
            for h, (host_name, _, has) in hosts.items():
                if ref in has and (host_name, name) not in self.hidden:
                    reason = self.inaccessible.get((host_name, name))
                    mode = "readOnly" if (host_name, name) in self.readonly else "readWrite"
                    mounts += ('<DatastoreHostMount><key type="HostSystem">%s</key><mountInfo><path>/vmfs/volumes/%s</path><accessMode>%s</accessMode>'
                               '<mounted>true</mounted><accessible>%s</accessible>%s</mountInfo></DatastoreHostMount>' % (
                                   h, escape(name), mode, "false" if reason else "true",
                                   "<inaccessibleReason>%s</inaccessibleReason>" % reason if reason else ""))
            return {"host": '<val xsi:type="ArrayOfDatastoreHostMount" %s>%s</val>' % (XSI, mounts)}

        def storage(ref):
            infos = ""
            for _, (_, system, has) in hosts.items():
                if system == ref:
                    for d in has:
                        name, server, path = stores[d]
                        infos += ('<mountInfo><mountInfo><path>/vmfs/volumes/%s</path><accessMode>readWrite</accessMode><mounted>true</mounted><accessible>true</accessible></mountInfo>'
                                  '<volume xsi:type="HostNasVolume"><type>NFS</type><name>%s</name><capacity>1</capacity><remoteHost>%s</remoteHost><remotePath>%s</remotePath><userName></userName></volume></mountInfo>' % (
                                      escape(name), escape(name), escape(server), escape(path)))
            return {"fileSystemVolumeInfo": '<val xsi:type="HostFileSystemVolumeInfo" %s><volumeTypeList>NFS</volumeTypeList>%s</val>' % (XSI, infos)}

        def cluster(_):
            options = "".join("<option><key>%s</key><value xsi:type=\"xsd:string\">%s</value></option>" % kv for kv in self.options.items())
            return {"configurationEx": '<val xsi:type="ClusterConfigInfoEx" %s><dasConfig><enabled>true</enabled><hBDatastoreCandidatePolicy>allFeasibleDs</hBDatastoreCandidatePolicy>%s</dasConfig><drsConfig></drsConfig></val>' % (XSI, options)}

        return {"HostSystem": lambda ref: host(ref) if ref in hosts else {}, "Datastore": datastore, "HostStorageSystem": storage, "ClusterComputeResource": cluster}

    def patch(self, request, reply):
        of, wanted = self.added(), set(re.findall(r"<(?:\w+:)?pathSet>([^<]*)<", request))

        def one(block):
            head = re.search(r'<obj (?:[^>]*?)type="(\w+)"[^>]*>([^<]*)</obj>', block.group(0))
            if not head or head.group(1) not in of:
                return block.group(0)
            text = block.group(0)
            ref = head.group(2).replace("&amp;", "&")
            for path, value in of[head.group(1)](ref).items():
                if path in wanted:
                    there = re.compile(r"<propSet><name>%s</name><val.*?</val></propSet>" % re.escape(path), re.S)
                    text = there.sub("", text)
                    text = re.sub(r"(<missingSet>.*)?(</(?:objects|returnval)>)$", lambda m: "<propSet><name>%s</name>%s</propSet>" % (path, value) + m.group(2), text, flags=re.S)
            return text
        kind = "objects" if "<objects>" in reply else "returnval"
        return re.sub(r"<%s>.*?</%s>" % (kind, kind), one, reply, flags=re.S)
