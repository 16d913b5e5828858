"""HAProxy's configuration of one load balancer, from the rows of its parts. Pure: rows in, text out.

Scaleway's load balancers are HAProxies, so most options are one of its own words. What the sandbox cannot do
is an EffectError that names the option, never silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.effects.protocol import EffectError, Row
from sandbox.hosts.desired import bare, key

UNITS = {"h": 3_600_000.0, "m": 60_000.0, "s": 1000.0, "ms": 1.0, "us": 0.001, "µs": 0.001, "ns": 0.000001}
DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|ms|us|µs|ns|m|s)")
SEND_PROXY = {
    "none": "",
    "v1": "send-proxy",
    "v2": "send-proxy-v2",
    "v2_ssl": "send-proxy-v2-ssl",
    "v2_ssl_cn": "send-proxy-v2-ssl-cn",
}
TLS = {
    "ssl_compatibility_level_old": "ssl-min-ver TLSv1.0",
    "ssl_compatibility_level_modern": "ssl-min-ver TLSv1.3",
}
HTTP_FILTERS = {"path_begin": "path_beg", "path_end": "path_end", "regex": "path_reg"}
DRAIN = "15m"  # how long connections of a server that has left, or of an old configuration, may go on
# Options that are recorded and have no effect here, by the last part of the type; what they must be.
UNSERVED: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "LoadBalancer": {"assignFlexibleIpv6": (None, False), "externalPrivateNetworks": (None, False)},
    "Ip": {"isIpv6": (None, False), "reverse": (None, "")},
    "Backend": {"failoverHost": (None, ""), "host": (None, "")},
    "Frontend": {
        "connectionRateLimit": (None, 0),
        "enableAccessLogs": (None, False),
        "enableHttp3": (None, False),
    },
}


@dataclass(frozen=True)
class Parts:
    """A load balancer and what is on it; ``certificates`` are the files of those, by bare id."""

    balancer: Row
    backends: Sequence[Row]
    frontends: Sequence[Row]
    acls: Sequence[Row]
    routes: Sequence[Row]
    certificates: Mapping[str, Path]


def check(row: Row) -> None:
    """Raise EffectError for an option that has no effect in the sandbox."""
    kind = row.token.rpartition(":")[2]
    odd = [name for name, fine in UNSERVED.get(kind, {}).items() if row.inputs.get(name) not in fine]
    if odd:
        raise EffectError(f"the sandbox's load balancer has no {', '.join(odd)} ({kind} {row.name})")


def render(parts: Parts, *, run: Path, authority: Path, mark: str, part: Row | None = None) -> str:
    """Text of haproxy.cfg. A refusal is raised for ``part`` only: another's is shown to that other.

    ``mark`` is what the running server tells to be asked whether it has read this text.
    """
    tls = TLS.get(str(parts.balancer.inputs.get("sslCompatibilityLevel")), "ssl-min-ver TLSv1.2")
    lines = [
        "global",
        "  user haproxy",
        "  group haproxy",
        "  maxconn 4000",
        "  nbthread 1",
        "  log stderr format raw local0 notice",
        f"  description {mark}",
        f"  hard-stop-after {DRAIN}",
        f"  stats socket {run}/admin.sock mode 600 level admin expose-fd listeners",
        f"  server-state-file {run}/servers",
        f"  ssl-default-bind-options {tls}",
        "defaults",
        "  log global",
        "  option dontlog-normal",
        "  option redispatch",
        "  load-server-state-from-file global",
        "  timeout client 5m",
        "  timeout http-request 30s",
    ]
    modes: dict[str, str] = {}
    for row in sorted(parts.backends, key=_order):
        block = _guarded(lambda row=row: list(backend(row, authority)), row, part)
        if block:
            lines += block
            modes[bare(row.id)] = str(row.inputs["forwardProtocol"])
    if part is not None and any(row.id == part.id for row in parts.frontends):
        wanted = int(part.inputs["inboundPort"])
        if any(int(row.inputs["inboundPort"]) == wanted and row.id != part.id for row in parts.frontends):
            raise EffectError(
                f"scaleway-sdk-go: resource already exists: a frontend on port {wanted} of this balancer"
            )
    taken: set[int] = set()
    for row in sorted(parts.frontends, key=_order):
        if bare(row.inputs["backendId"]) not in modes:
            continue
        port = int(row.inputs["inboundPort"])
        if port in taken:
            continue
        block = _guarded(lambda row=row: list(frontend(row, parts, modes, part)), row, part)
        if block:
            taken.add(port)
            lines += block
    return "\n".join([*lines, ""])


def listens(text: str) -> bool:
    """Whether there is a frontend at all: HAProxy does not run for nothing."""
    return "\nfrontend " in text


# ---------------------------------------------------------------- backends


def backend(row: Row, authority: Path) -> Iterator[str]:
    """One backend with its servers."""
    check(row)
    values = row.inputs
    http = values["forwardProtocol"] == "http"
    yield f"backend {key(row.id)}"
    yield f"  mode {values['forwardProtocol']}"
    yield f"  balance {values.get('forwardPortAlgorithm') or 'roundrobin'}"
    for word, name, default in (
        ("connect", "timeoutConnect", "5s"),
        ("server", "timeoutServer", "5m"),
        ("tunnel", "timeoutTunnel", "15m"),
        ("queue", "timeoutQueue", "0s"),
        ("check", "healthCheckTimeout", "30s"),
    ):
        if time := milliseconds(values.get(name) or default):
            yield f"  timeout {word} {time}ms"
    yield f"  retries {int(values.get('maxRetries') or 3)}"
    if values.get("redispatchAttemptCount"):
        yield f"  option redispatch {int(values['redispatchAttemptCount'])}"
    if http:
        yield "  option forwardfor"
        yield "  http-request set-header X-Forwarded-Proto https if { ssl_fc }"
        yield "  http-request set-header X-Forwarded-Proto http if !{ ssl_fc }"
    sticky = values.get("stickySessions") or "none"
    if sticky == "cookie":
        if not http:
            raise EffectError(f"sticky sessions by cookie need forward_protocol http ({row.name})")
        name = quoted(values.get("stickySessionsCookieName") or "SERVERID")
        yield f"  cookie {name} insert indirect nocache"
    elif sticky == "table":
        yield "  stick-table type ip size 100k expire 30m"
        yield "  stick on src"
    yield from _health(row)
    for address in values.get("serverIps") or ():
        yield _server(row, str(address), authority, cookie=sticky == "cookie")


def _health(row: Row) -> Iterator[str]:
    values = row.inputs
    asked = values.get("healthCheckHttp") or values.get("healthCheckHttps")
    if asked is None:
        return
    yield "  option httpchk"
    host = f" hdr Host {quoted(asked['hostHeader'])}" if asked.get("hostHeader") else ""
    yield f"  http-check send meth {quoted(asked.get('method') or 'GET')} uri {quoted(asked['uri'])}{host}"
    yield f"  http-check expect status {int(asked.get('code') or 200)}"


def _server(row: Row, address: str, authority: Path, *, cookie: bool) -> str:
    values = row.inputs
    port = int(values["forwardPort"])
    check_port = int(values.get("healthCheckPort") or port)
    # The name holds all that the state kept over a reload must not outlive.
    name = f"{address}_{port}_{check_port}"
    words = [f"  server {name} {address}:{port} check port {check_port}"]
    words.append(f"inter {milliseconds(values.get('healthCheckDelay') or '60s')}ms")
    words.append(f"fastinter {milliseconds(values.get('healthCheckTransientDelay') or '0.5s')}ms")
    words.append(f"fall {int(values.get('healthCheckMaxRetries') or 2)}")
    proxy = "v2" if values.get("sendProxyV2") else str(values.get("proxyProtocol") or "none")
    words.append(SEND_PROXY[proxy])
    if values.get("healthCheckSendProxy"):
        words.append("check-send-proxy")
    verify = "verify none" if values.get("ignoreSslServerVerify") else f"verify required ca-file {authority}"
    if values.get("sslBridging"):
        words.append(f"ssl {verify}")
    https = values.get("healthCheckHttps")
    if https is not None:
        words.append("check-ssl" if values.get("sslBridging") else f"check-ssl {verify}")
        if https.get("sni"):
            words.append(f"check-sni {quoted(https['sni'])}")
    elif values.get("sslBridging"):
        words.append("no-check-ssl")
    if values.get("onMarkedDownAction") == "shutdown_sessions":
        words.append("on-marked-down shutdown-sessions")
    if values.get("maxConnections"):
        words.append(f"maxconn {int(values['maxConnections'])}")
    if cookie:
        words.append(f"cookie {key(f'{row.id}-{name}')}")
    return " ".join(filter(None, words))


# ---------------------------------------------------------------- frontends


def frontend(row: Row, parts: Parts, modes: Mapping[str, str], part: Row | None) -> Iterator[str]:
    """One frontend with its access list and routes."""
    check(row)
    values = row.inputs
    mode = modes[bare(values["backendId"])]
    wanted = [bare(id) for id in values.get("certificateIds") or ()]
    if missing := [id for id in wanted if id not in parts.certificates]:
        raise EffectError(f"scaleway-sdk-go: resource certificate with ID {missing[0]} is not found")
    tls = "".join(f" crt {parts.certificates[id]}" for id in wanted)
    protocols = " alpn h2,http/1.1" if mode == "http" else ""
    yield f"frontend {key(row.id)}"
    yield f"  bind :{int(values['inboundPort'])}" + (f" ssl{tls}{protocols}" if tls else "")
    yield f"  mode {mode}"
    if values.get("timeoutClient"):
        yield f"  timeout client {milliseconds(values['timeoutClient'])}ms"
    for number, acl in enumerate(values.get("acls") or ()):
        yield from _acl(f"a{number}", acl, mode, row.name)
    outer = [acl for acl in parts.acls if bare(acl.inputs["frontendId"]) == bare(row.id)]
    for acl_row in sorted(outer, key=lambda acl: (int(acl.inputs["index"]), acl.id)):
        yield from _guarded(lambda a=acl_row: list(_acl(key(a.id), a.inputs, mode, a.name)), acl_row, part)
    routes = [route for route in parts.routes if bare(route.inputs["frontendId"]) == bare(row.id)]
    if mode == "tcp" and any(route.inputs.get("matchSni") for route in routes):
        yield "  tcp-request inspect-delay 5s"
        yield "  tcp-request content accept if { req_ssl_hello_type 1 }"
    for route in sorted(routes, key=_order):
        if bare(route.inputs["backendId"]) in modes:
            yield from _guarded(lambda r=route: [_route(r, mode, modes)], route, part)
    yield f"  default_backend {key(values['backendId'])}"


def _acl(name: str, values: Mapping[str, Any], mode: str, label: str) -> Iterator[str]:
    match = values.get("match") or {}
    if match.get("ipsEdgeServices"):
        raise EffectError(f"the sandbox's load balancer has no ipsEdgeServices (ACL {label})")
    conditions = []
    if match.get("ipSubnets"):
        yield f"  acl {name}_ip src {' '.join(quoted(subnet) for subnet in match['ipSubnets'])}"
        conditions.append(f"{name}_ip")
    kind = match.get("httpFilter") or "acl_http_filter_none"
    if kind != "acl_http_filter_none":
        if mode != "http":
            raise EffectError(f"an ACL with an HTTP filter needs a backend that forwards HTTP ({label})")
        test = HTTP_FILTERS.get(kind)
        if kind == "http_header_match":
            test = f"req.hdr({word(match.get('httpFilterOption'))}) -m str"
        texts = " ".join(quoted(text) for text in match.get("httpFilterValues") or ())
        yield f"  acl {name}_http {test} -- {texts}"
        conditions.append(f"{name}_http")
    condition = f" {'unless' if match.get('invert') else 'if'} {' '.join(conditions)}" if conditions else ""
    action = values["action"]
    rule = "http-request" if mode == "http" else "tcp-request content"
    if action["type"] == "redirect":
        if mode != "http":
            raise EffectError(f"an ACL that redirects needs a backend that forwards HTTP ({label})")
        for redirect in action.get("redirects") or ():
            code = f" code {int(redirect['code'])}" if redirect.get("code") else ""
            yield f"  http-request redirect {redirect['type']} {quoted(redirect['target'])}{code}{condition}"
    elif action["type"] == "deny":
        yield f"  {rule} {'deny' if mode == 'http' else 'reject'}{condition}"
    else:
        yield f"  {rule} {'allow' if mode == 'http' else 'accept'}{condition}"


def _route(row: Row, mode: str, modes: Mapping[str, str]) -> str:
    values = row.inputs
    to = bare(values["backendId"])
    if modes[to] != mode:
        raise EffectError(f"route {row.name}: its backend forwards {modes[to]}, its frontend {mode}")
    sni, host, path = (values.get(name) for name in ("matchSni", "matchHostHeader", "matchPathBegin"))
    if (mode == "tcp") != bool(sni):
        raise EffectError(f"route {row.name}: by SNI where TCP is forwarded, by host or path where HTTP is")
    if path:
        condition = f"path_beg -- {quoted(path)}"
    else:
        what = "req_ssl_sni" if sni else "req.hdr(host),host_only"
        text = str(sni or host)
        condition = f"{what} -i -- {quoted(text)}"
        if values.get("matchSubdomains"):
            condition = f"{what} -i -m end -- {quoted('.' + text)}"
    return f"  use_backend {key(to)} if {{ {condition} }}"


# ---------------------------------------------------------------- words


def milliseconds(text: str) -> int:
    """A duration as Go writes it (``1m30s``, ``0.5s``). EffectError for anything else."""
    if "".join(number + unit for number, unit in DURATION.findall(text)) != text:
        raise EffectError(f"time: invalid duration {text!r}")
    return round(sum(float(number) * UNITS[unit] for number, unit in DURATION.findall(text)))


def quoted(value: Any) -> str:
    """One word of the configuration, whatever is in it. EffectError for several lines."""
    text = str(value)
    if not text or not text.isprintable():
        raise EffectError(f"invalid argument(s): {text!r}")
    return "'" + text.replace("'", "'\\''") + "'"


def word(value: Any) -> str:
    """The name of a header. EffectError for anything else."""
    if not re.fullmatch(r"[A-Za-z0-9-]+", str(value)):
        raise EffectError(f"invalid argument(s): {value!r} is not the name of a header")
    return str(value)


def _order(row: Row) -> str:
    return row.id


def _guarded(block: Any, row: Row, part: Row | None) -> Iterable[str]:
    try:
        lines: Iterable[str] = block()
    except EffectError:
        if part is not None and part.id == row.id:
            raise
        return ()
    return lines
