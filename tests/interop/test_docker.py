"""The harness itself: Docker is up, serves, and is gone afterwards."""

from __future__ import annotations

from sandbox.host import Host, until

from interop.docker import Docker


def test_docker_serves(host: Host, docker: Docker) -> None:
    web = docker.run("web", "-p", "8080:80")
    page = f"http://{web.ip()}/"
    assert until(lambda: host.fetch("host", page) == "web\n")
    assert host.fetch("host", "http://127.0.0.1:8080/") == "web\n"
    assert host.fetch("host", f"{page}cgi-bin/from") == "web 172.17.0.1\n"
    other = docker.run("other", "--network", f"container:{web.name}", command=("sleep", "1d"))
    assert other.exec("wget", "-qO-", "http://127.0.0.1/") == "web\n"
    assert web.exec("ip", "-4", "route").startswith("default via 172.17.0.1 dev eth0")
    assert host.ping(web.ns, "172.17.0.1")


def test_nothing_of_it_is_left(host: Host, docker: Docker) -> None:
    assert docker("ps", "-aq") == ""
    assert [link["ifname"] for link in host.ip_json("host", "link")] == ["lo", "docker0"]
