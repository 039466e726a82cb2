"""The world's hosts on loopback: every address, every fault."""

from __future__ import annotations

import base64
import csv
import hashlib
import http.client
import io
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from croplake.miniature import MiniatureServer, World, serve_world

MIRROR = "open-images-dataset.s3.amazonaws.com"
CSVS = "storage.googleapis.com"
CSV_PATHS = (
    "/openimages/v7/oidv7-class-descriptions-boxable.csv",
    "/openimages/v6/oidv6-train-annotations-bbox.csv",
    "/openimages/v5/validation-annotations-bbox.csv",
    "/openimages/v5/test-annotations-bbox.csv",
    "/openimages/2018_04/train/train-images-boxable-with-rotation.csv",
    "/openimages/2018_04/validation/validation-images-with-rotation.csv",
    "/openimages/2018_04/test/test-images-with-rotation.csv",
    "/openimages/2018_04/bbox_labels_600_hierarchy.json",
)

Photo = dict[str, Any]
Address = tuple[str, str]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Client:
    """One kept-alive connection to the server, whatever the host's name."""

    def __init__(self, address: str) -> None:
        host, port = address.split(":")
        self.connection = http.client.HTTPConnection(host, int(port), timeout=20)

    def ask(self, address: Address, method: str = "GET") -> Answer:
        self.connection.request(method, address[1], headers={"Host": address[0]})
        answer = self.connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())


@pytest.fixture
def server(world: World) -> Iterator[MiniatureServer]:
    with serve_world(world) as running:
        yield running


@pytest.fixture
def client(server: MiniatureServer) -> Iterator[Client]:
    client = Client(server.address)
    yield client
    client.connection.close()


def mirror_of(photo: Photo) -> Address:
    return MIRROR, f"/{photo['subset']}/{photo['image_id']}.jpg"


def original_of(photo: Photo) -> Address:
    return photo["host"], photo["original_path"]


def thumbnail_of(photo: Photo) -> Address:
    return photo["host"], photo["thumbnail_path"]


def photos_with(world: World, fault: str | None) -> list[Photo]:
    """Photos with this fault, or without one; all have a thumbnail."""
    faults = world.faults()
    photos = [
        photo
        for photo in world.photos()
        if photo["thumbnail_path"] and faults.get(photo["image_id"]) == fault
    ]
    assert photos
    return photos


def decoded(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def test_the_mirror_serves_its_copy_by_subset_and_id(world: World, client: Client) -> None:
    for photo in photos_with(world, None)[:20]:
        answer = client.ask(mirror_of(photo))
        path = world.root / "mirror" / photo["subset"] / f"{photo['image_id']}.jpg"
        assert (answer.status, answer.headers["Content-Type"]) == (200, "image/jpeg")
        assert answer.body == path.read_bytes()
        assert answer.headers["Content-Length"] == str(len(answer.body))


def test_the_addresses_of_the_csv_lead_to_the_original_that_it_describes(
    world: World, client: Client
) -> None:
    sound = {photo["image_id"]: photo["kind"] for photo in photos_with(world, None)}
    kinds = set()
    with (world.csv_dir / "test-images-with-rotation.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["ImageID"] in sound]
    for row in rows:
        parts = urlsplit(row["OriginalURL"])
        answer = client.ask((parts.netloc, parts.path))
        assert answer.status == 200
        assert len(answer.body) == int(row["OriginalSize"])
        md5 = hashlib.md5(answer.body, usedforsecurity=False).digest()
        assert md5 == base64.b64decode(row["OriginalMD5"])
        is_png = decoded(answer.body).format == "PNG"
        assert answer.headers["Content-Type"] == ("image/png" if is_png else "image/jpeg")
        kinds.add(sound[row["ImageID"]])
    assert {"colour", "progressive", "png"} <= kinds


def test_thumbnails_are_upright_where_the_original_is_not(world: World, client: Client) -> None:
    turned = [photo for photo in photos_with(world, None) if photo["rotation_deg"]]
    assert {photo["rotation_deg"] for photo in turned} == {90, 180, 270}
    for photo in turned:
        small = decoded(client.ask(thumbnail_of(photo)).body).convert("L")
        stored = decoded(client.ask(original_of(photo)).body).convert("RGB").convert("L")
        assert max(small.size) <= 320
        upright = Image.fromarray(np.rot90(np.asarray(stored), photo["rotation_deg"] // 90))
        apart = np.asarray(upright.resize(small.size), float) - np.asarray(small, float)
        assert np.abs(apart).mean() < 8
        if photo["rotation_deg"] != 180:
            assert (small.width < small.height) == (stored.width > stored.height)


def test_the_csvs_are_at_their_published_addresses(world: World, client: Client) -> None:
    for path in CSV_PATHS:
        answer = client.ask((CSVS, path))
        assert answer.status == 200
        assert answer.body == (world.csv_dir / path.rsplit("/", 1)[1]).read_bytes()
    assert len(CSV_PATHS) == len(list(world.csv_dir.iterdir()))


def test_a_path_counts_on_its_own_host_only(world: World, client: Client) -> None:
    photo = photos_with(world, None)[0]
    flickr = photo["host"]
    for address in (
        mirror_of(photo),
        original_of(photo),
        thumbnail_of(photo),
        (CSVS, CSV_PATHS[0]),
    ):
        assert client.ask(address).status == 200
        for host in {MIRROR, CSVS, flickr, "127.0.0.1", "example.org"} - {address[0]}:
            assert client.ask((host, address[1])).status == 404
    assert client.ask((f"{MIRROR}:80", mirror_of(photo)[1])).status == 200


@pytest.mark.parametrize("path", ["/", "/train/0000000000000000.jpg", "/../world.json", "/a?b=c"])
@pytest.mark.parametrize("host", [MIRROR, CSVS, "farm1.staticflickr.com", "example.org"])
def test_an_unknown_path_is_404(host: str, path: str, client: Client) -> None:
    assert client.ask((host, path)).status == 404


def test_every_host_of_the_world_is_named_with_the_servers_address(
    world: World, server: MiniatureServer
) -> None:
    hosts = {MIRROR, CSVS} | {photo["host"] for photo in world.photos()}
    assert hosts <= set(server.connect_to)
    assert set(server.connect_to.values()) == {server.address}


def test_head_answers_like_get_without_a_body(world: World, client: Client) -> None:
    photo = photos_with(world, None)[0]
    gone = photos_with(world, "gone")[0]
    for address in (mirror_of(photo), original_of(photo), mirror_of(gone), (CSVS, "/nothing")):
        head, get = client.ask(address, "HEAD"), client.ask(address)
        assert head.body == b""
        assert (head.status, head.headers.items()) == (get.status, get.headers.items())


def test_one_connection_serves_many_requests(world: World, client: Client) -> None:
    photos = photos_with(world, None)[:10] + photos_with(world, "gone")
    client.connection.connect()
    kept = client.connection.sock
    client.connection.auto_open = 0  # a closed connection is an error, not a new one
    statuses = [client.ask(mirror_of(photo)).status for photo in photos]
    assert statuses == [200] * 10 + [404] * (len(photos) - 10)
    assert client.connection.sock is kept


def test_a_gone_photo_is_on_no_host(world: World, client: Client) -> None:
    statuses = set()
    for photo in photos_with(world, "gone"):
        assert client.ask(mirror_of(photo)).status == 404
        for address in (original_of(photo), thumbnail_of(photo)):
            answer = client.ask(address)
            statuses.add(answer.status)
            if answer.status == 302:
                location = urlsplit(answer.headers["Location"])
                assert location.netloc == photo["host"]
                assert location.path.endswith("/photo_unavailable_l.png")
                placeholder = client.ask((location.netloc, location.path))
                assert placeholder.status == 200
                # A picture like any other: only its address says that the photo is gone.
                assert decoded(placeholder.body).format == "PNG"
    assert statuses == {302, 410}


def test_a_photo_gone_from_the_mirror_is_still_on_flickr(world: World, client: Client) -> None:
    for photo in photos_with(world, "mirror_gone"):
        assert client.ask(mirror_of(photo)).status == 404
        assert client.ask(original_of(photo)).status == 200
        original, small = client.ask(original_of(photo)), client.ask(thumbnail_of(photo))
        assert len(original.body) == photo["original_size_bytes"]
        decoded(original.body)
        decoded(small.body)


def is_cut_short(body: bytes) -> bool:
    with pytest.raises(OSError, match="truncated"):
        decoded(body)
    return len(body) > 1000


@pytest.mark.parametrize(
    ("fault", "is_as_documented"),
    [
        ("truncated", is_cut_short),
        ("empty", lambda body: body == b""),
        ("html", lambda body: body.startswith(b"<html>")),
    ],
)
def test_rubbish_is_the_same_on_every_host_and_says_200(
    fault: str, is_as_documented: Callable[[bytes], bool], world: World, client: Client
) -> None:
    for photo in photos_with(world, fault):
        for address in (mirror_of(photo), original_of(photo), thumbnail_of(photo)):
            answers = [client.ask(address), client.ask(address)]
            assert answers[0].body == answers[1].body
            for answer in answers:
                assert answer.status == 200
                assert answer.headers["Content-Type"].startswith("image/")
                assert is_as_documented(answer.body)


def test_a_busy_photo_is_refused_twice_at_each_address_then_served(
    world: World, client: Client
) -> None:
    for photo in photos_with(world, "busy"):
        for address in (mirror_of(photo), original_of(photo), thumbnail_of(photo)):
            assert [client.ask(address).status for _ in range(4)] == [503, 503, 200, 200]
        assert len(client.ask(original_of(photo)).body) == photo["original_size_bytes"]


def test_many_clients_at_once_are_all_answered_and_recorded(
    world: World, server: MiniatureServer
) -> None:
    busy, sound = photos_with(world, "busy")[0], photos_with(world, None)[:30]
    addresses = [mirror_of(photo) for photo in (busy, *sound)]

    def ask_all(_: int) -> list[int]:
        client = Client(server.address)
        try:
            return [client.ask(address).status for address in addresses]
        finally:
            client.connection.close()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask_all, range(8)))
    assert sorted(statuses[0] for statuses in answers) == [200] * 6 + [503] * 2
    assert {status for statuses in answers for status in statuses[1:]} == {200}
    assert len(server.requests) == 8 * len(addresses)


def test_requests_are_recorded_as_they_were_answered(
    world: World, server: MiniatureServer, client: Client
) -> None:
    photo, empty = photos_with(world, None)[0], photos_with(world, "empty")[0]
    size = len(client.ask(mirror_of(photo)).body)
    client.ask(original_of(empty))
    client.ask((CSVS, "/nothing"), "HEAD")
    noted = [(r.method, r.host, r.path, r.status) for r in server.requests]
    assert noted == [
        ("GET", *mirror_of(photo), 200),
        ("GET", *original_of(empty), 200),
        ("HEAD", CSVS, "/nothing", 404),
    ]
    assert [request.num_bytes for request in server.requests[:2]] == [size, 0]


def test_forgetting_the_requests_does_not_make_busy_photos_busy_again(
    world: World, server: MiniatureServer, client: Client
) -> None:
    address = mirror_of(photos_with(world, "busy")[0])
    assert [client.ask(address).status for _ in range(2)] == [503, 503]
    server.clear_requests()
    assert server.requests == []
    assert client.ask(address).status == 200
    assert len(server.requests) == 1


def test_a_server_that_remembers_goes_on_counting_where_the_last_one_stopped(world: World) -> None:
    address = mirror_of(photos_with(world, "busy")[0])
    statuses = []
    try:
        for asked in (1, 2):
            with serve_world(world, remembers=True) as server:
                client = Client(server.address)
                statuses += [client.ask(address).status for _ in range(asked)]
                client.connection.close()
    finally:
        (world.root / "asked.json").unlink()
    assert statuses == [503, 503, 200]


def test_each_server_has_a_port_of_its_own_and_its_own_record(world: World) -> None:
    address = mirror_of(photos_with(world, "busy")[0])
    with serve_world(world) as first, serve_world(world) as second:
        assert first.address != second.address
        for server in (first, second):
            host, port = server.address.split(":")
            assert host == "127.0.0.1"
            assert int(port) >= 1024
            client = Client(server.address)
            assert client.ask(address).status == 503
            client.connection.close()
        assert len(first.requests) == len(second.requests) == 1


def test_after_the_context_the_port_is_closed_and_kept_connections_end(world: World) -> None:
    with serve_world(world) as server:
        client = Client(server.address)
        assert client.ask((CSVS, CSV_PATHS[0])).status == 200
        idle = client.connection.sock
        assert idle is not None
    assert idle.recv(1) == b""
    client.connection.close()
    host, port = server.address.split(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=20)


def test_the_port_is_closed_when_the_context_ends_in_an_error(world: World) -> None:
    with pytest.raises(ZeroDivisionError), serve_world(world) as server:
        raise ZeroDivisionError
    host, port = server.address.split(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=20)
