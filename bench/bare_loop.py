"""The limit: no claims, no checks, no report; only the unlinks and the batched SQL."""

import os
import sys

import sqlalchemy as sa

PAGE = 1000

_CANDIDATES = sa.text(
    "SELECT i.id AS image, l.id AS location, l.value AS url FROM images i"
    " JOIN image_locations l ON l.image_id = i.id"
    " WHERE i.deleted AND i.status = 'pending_delete' AND l.status = 'pending_delete'"
    " AND i.id > :last ORDER BY i.id LIMIT :page"
)
_LOCATIONS = sa.text("UPDATE image_locations SET status = 'deleted' WHERE id IN :ids").bindparams(
    sa.bindparam("ids", expanding=True)
)
_IMAGES = sa.text("UPDATE images SET status = 'deleted' WHERE id IN :ids").bindparams(
    sa.bindparam("ids", expanding=True)
)


def main(url: str) -> None:
    engine = sa.create_engine(url)
    last = ""
    with engine.connect() as connection:
        while True:
            page = connection.execute(_CANDIDATES, {"last": last, "page": PAGE}).all()
            connection.commit()
            if not page:
                return
            for row in page:
                os.unlink(row.url.removeprefix("file://"))
            connection.execute(_LOCATIONS, {"ids": [row.location for row in page]})
            connection.execute(_IMAGES, {"ids": [row.image for row in page]})
            connection.commit()
            last = page[-1].image


if __name__ == "__main__":
    main(sys.argv[1])
