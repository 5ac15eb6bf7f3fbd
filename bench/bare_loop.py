"""The limit: no claims, no checks, no report; only the store's calls and the batched SQL.

``bare_loop.py SETTINGS``, a JSON file: where the rows are, where the objects are, and how many
calls at once.
"""

import http.client
import json
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote, unquote, urlsplit

PAGE = 1000

#: A page's URLs, all of which are deleted when it returns.
Delete = Callable[[Sequence[str]], object]


def main(settings: dict[str, Any]) -> None:
    connection = connect(settings["database"])
    delete = STORES[settings["store"]](settings)
    for page in pages(connection):
        delete([url for _, _, url in page])
        finish(connection, page)


# Rows ---------------------------------------------------------------------------------------

Page = Sequence[tuple[str, int, str]]


def connect(url: str) -> Any:
    parts = urlsplit(url)
    where = {
        "host": parts.hostname,
        "port": parts.port,
        "user": parts.username,
        "password": unquote(parts.password or ""),
    }
    if parts.scheme.startswith("sqlite"):
        import sqlite3

        return sqlite3.connect(parts.path.removeprefix("/"))
    if parts.scheme.startswith("mysql"):
        import pymysql

        return pymysql.connect(**where, database=parts.path[1:])
    import psycopg2

    return psycopg2.connect(**where, dbname=parts.path[1:])


def pages(connection: Any) -> Iterator[Page]:
    cursor = connection.cursor()
    last = ""
    while True:
        cursor.execute(
            "SELECT i.id, l.id, l.value FROM images i JOIN image_locations l ON l.image_id = i.id"
            " WHERE i.deleted = TRUE AND i.status = 'pending_delete'"
            f" AND l.status = 'pending_delete' AND i.id > '{last}' ORDER BY i.id LIMIT {PAGE}"
        )
        page: Page = cursor.fetchall()
        connection.commit()
        if not page:
            return
        yield page
        last = page[-1][0]


def finish(connection: Any, page: Page) -> None:
    cursor = connection.cursor()
    images = ",".join(f"'{image}'" for image, _, _ in page)
    locations = ",".join(str(location) for _, location, _ in page)
    cursor.execute(f"UPDATE image_locations SET status = 'deleted' WHERE id IN ({locations})")
    cursor.execute(f"UPDATE images SET status = 'deleted' WHERE id IN ({images})")
    connection.commit()


# Stores -------------------------------------------------------------------------------------


def files(_settings: dict[str, Any]) -> Delete:
    def delete(urls: Sequence[str]) -> None:
        for url in urls:
            os.unlink(url[len("file://") :])

    return delete


def s3(settings: dict[str, Any]) -> Delete:
    """DeleteObjects with a thousand keys."""
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=settings["endpoint"],
        region_name="us-east-1",
        aws_access_key_id=settings["access_key"],
        aws_secret_access_key=settings["secret_key"],
    )

    def delete(urls: Sequence[str]) -> None:
        keys = [{"Key": url.rpartition("/")[2]} for url in urls]
        answer = client.delete_objects(
            Bucket=settings["bucket"], Delete={"Objects": keys, "Quiet": True}
        )
        assert not answer.get("Errors"), answer["Errors"][0]

    return delete


class Container:
    """A Swift container, with one kept connection for each of the pool's threads."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._threads = ThreadPoolExecutor(settings["pool"])
        self._local = threading.local()
        self._url = urlsplit(settings["url"])
        self._path = f"{self._url.path}/{settings['container']}"
        self._token = self._log_in(settings)

    def delete(self, urls: Sequence[str]) -> None:
        self._each(self._delete, (url.rpartition("/")[2] for url in urls))

    def delete_large(self, urls: Sequence[str]) -> None:
        """Segments first, those of all images at once, then the manifests."""
        names = [url.rpartition("/")[2] for url in urls]
        listings = self._each(lambda name: self._request("GET", f"?prefix={name}-"), names)
        self._each(self._delete, (name for listing in listings for name in listing.split()))
        self._each(self._delete, names)

    def _each(self, work: Callable[[str], str], names: Iterable[str]) -> list[str]:
        return list(self._threads.map(work, names))

    def _delete(self, name: str) -> str:
        return self._request("DELETE", f"/{quote(name)}")

    def _request(self, method: str, what: str) -> str:
        connection = self._connection()
        connection.request(method, self._path + what, headers={"X-Auth-Token": self._token})
        answer = connection.getresponse()
        body = answer.read().decode()
        assert answer.status < 300, f"{method}: {answer.status}"
        return body

    def _connection(self) -> http.client.HTTPConnection:
        if not hasattr(self._local, "connection"):
            self._local.connection = http.client.HTTPConnection(self._url.netloc)
        connection: http.client.HTTPConnection = self._local.connection
        return connection

    def _log_in(self, settings: dict[str, Any]) -> str:
        parts = urlsplit(settings["auth"])
        connection = http.client.HTTPConnection(parts.netloc)
        login = {"X-Auth-User": settings["user"], "X-Auth-Key": settings["key"]}
        connection.request("GET", parts.path, headers=login)
        return connection.getresponse().headers["X-Auth-Token"]


STORES: dict[str, Callable[[dict[str, Any]], Delete]] = {
    "file": files,
    "s3": s3,
    "swift": lambda settings: Container(settings).delete,
    "dlo": lambda settings: Container(settings).delete_large,
}


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        main(json.load(file))
