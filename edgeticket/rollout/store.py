"""Where a fleet is kept: SQLite or PostgreSQL, by SQLAlchemy Core. Everything that belongs together is one transaction."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from edgeticket.errors import EdgeTicketError, UsageError

FORMAT = "edgeticket-rollout 1"
WAIT_S = 30  # for another process that writes
CACHE_KIB = 64 << 10  # of SQLite: reports of a day fall on all of a large fleet
ONE_WRITER = 0x6564676574  # of PostgreSQL's advisory locks


class Said(sa.types.TypeDecorator[str]):
    """Text of people and programs, without what a database cannot hold: half a surrogate pair, and NUL."""

    impl, cache_ok = sa.Text, True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        return value and value.encode(errors="replace").decode().replace("\0", "?")


metadata = sa.MetaData()
about = sa.Table("about", metadata, sa.Column("format", sa.Text, primary_key=True))
devices = sa.Table(
    "devices",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("highest", sa.BigInteger, nullable=False),  # which reports came: replay.py
    sa.Column("seen", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
rollouts = sa.Table(
    "rollouts",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("plan", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("previous", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),  # running, done, reverted
    sa.Column("stage", sa.Integer, nullable=False),
    sa.Column("bound", sa.BigInteger, nullable=False),  # highest position inside the stage: members.py
    sa.Column("members", sa.Integer, nullable=False),  # devices inside it
    sa.Column("slowest_ms", sa.Float(53)),  # of the stage: the largest 99th percentile of a report
    sa.Column("hook_since", sa.Float(53), nullable=False),  # a hook is running from then, seconds since 1970,
    sa.Column("hook_until", sa.Float(53), nullable=False),  # until then
)
gates = sa.Table(
    "gates",
    metadata,
    sa.Column("rollout", sa.Integer, sa.ForeignKey("rollouts.id"), primary_key=True),
    sa.Column("stage", sa.Integer, primary_key=True),
    sa.Column("gate", sa.Text, primary_key=True),
    sa.Column("units", sa.BigInteger, nullable=False),
    sa.Column("failures", sa.Float(53), nullable=False),
    sa.Column("against_good", sa.Float(53), nullable=False),
    sa.Column("against_bad", sa.Float(53), nullable=False),
    sa.Column("passed", sa.Boolean, nullable=False),
    sa.Column("stopped", sa.Boolean, nullable=False),
)
heard = sa.Table(
    "heard",
    metadata,
    sa.Column("rollout", sa.Integer, sa.ForeignKey("rollouts.id"), primary_key=True),
    sa.Column("stage", sa.Integer, primary_key=True),
    sa.Column("device", sa.Text, primary_key=True),
    sqlite_with_rowid=False,
)
counted = sa.Table(  # where a device counts once
    "counted",
    metadata,
    sa.Column("rollout", sa.Integer, sa.ForeignKey("rollouts.id"), primary_key=True),
    sa.Column("stage", sa.Integer, primary_key=True),
    sa.Column("gate", sa.Text, primary_key=True),
    sa.Column("device", sa.Text, primary_key=True),
    sqlite_with_rowid=False,
)
refusals = sa.Table(
    "refusals",
    metadata,
    sa.Column("reason", sa.Text, primary_key=True),
    sa.Column("count", sa.BigInteger, nullable=False),
)
decisions = sa.Table(
    "decisions",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("rollout", sa.Integer, sa.ForeignKey("rollouts.id"), nullable=False),
    sa.Column("at", sa.Text, nullable=False),
    sa.Column("stage", sa.Integer, nullable=False),
    sa.Column("action", sa.Text, nullable=False),  # start, advance, finish, revert
    sa.Column("why", Said, nullable=False),
    sa.Column("numbers", sa.Text, nullable=False),
)
hook_runs = sa.Table(
    "hook_runs",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("decision", sa.Integer, sa.ForeignKey("decisions.id"), nullable=False),
    sa.Column("at", sa.Text, nullable=False),
    sa.Column("command", Said, nullable=False),
    sa.Column("code", sa.Integer, nullable=False),
    sa.Column("output", Said, nullable=False),
)

APPEND_ONLY = (decisions, hook_runs)


def _append_only() -> None:
    """The database itself refuses to change or delete what was decided."""
    refuse = """CREATE OR REPLACE FUNCTION edgeticket_append_only() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'append-only'; END $$"""
    event, postgres = sa.event, "postgresql"
    event.listen(metadata, "before_create", sa.DDL(refuse).execute_if(dialect=postgres))
    for table in APPEND_ONLY:
        for verb in ("UPDATE", "DELETE"):
            lite = f"CREATE TRIGGER {table.name}_{verb} BEFORE {verb} ON {table.name} BEGIN SELECT RAISE(ABORT, 'append-only'); END"
            event.listen(table, "after_create", sa.DDL(lite).execute_if(dialect="sqlite"))
        trigger = f"""CREATE TRIGGER {table.name}_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON {table.name}
            EXECUTE FUNCTION edgeticket_append_only()"""
        event.listen(table, "after_create", sa.DDL(trigger).execute_if(dialect=postgres))


_append_only()


class Store:
    """A fleet's database. With `create`, an empty one becomes a fleet's in the transaction that first writes to it.

    Raises UsageError where there is no fleet and `create` is not said, or tables of something else, EdgeTicketError where it fails.
    """

    def __init__(self, where: str, create: bool = False) -> None:
        self._engine = _engine(where, create)
        self._where = self._engine.url.render_as_string(hide_password=True)
        with self.reading() as connection:
            self._made = self._is_fleet(connection)
        if not (self._made or create):
            raise UsageError(f"{self._where} holds no fleet: `edgeticket rollout devices --add` makes one")

    def _is_fleet(self, connection: sa.Connection) -> bool:
        """Or else it is empty."""
        inspector = sa.inspect(connection)
        if not inspector.has_table("about"):
            if tables := inspector.get_table_names():
                raise UsageError(
                    f"{self._where} holds no fleet but other tables, such as {tables[0]}: give the fleet a database of its own"
                )
            return False
        found = connection.execute(sa.select(about.c.format)).scalar()
        if found != FORMAT:
            raise EdgeTicketError(
                f"{self._where} is {found!r}, and this version reads {FORMAT!r}: use the one that made it"
            )
        return True

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """One view of everything, unchanged by writers."""
        with self._explained(), self._begin(write=False) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """All of it happens or nothing, and nobody else writes meanwhile."""
        with self._explained(), self._begin(write=True) as connection:
            if not self._made and not self._is_fleet(connection):
                metadata.create_all(connection)
                connection.execute(about.insert().values(format=FORMAT))
            yield connection
        self._made = True

    @contextmanager
    def _begin(self, write: bool) -> Iterator[sa.Connection]:
        postgres = self._engine.dialect.name == "postgresql"
        with self._engine.connect().execution_options(edgeticket_write=write) as connection:
            if postgres:  # a writer must see what was committed while it waited for the lock
                connection.execution_options(isolation_level="READ COMMITTED" if write else "REPEATABLE READ")
            with connection.begin():
                if postgres and write:
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(ONE_WRITER)))
                yield connection

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.SQLAlchemyError as error:
            cause = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
            raise EdgeTicketError(
                f"{self._where}: {cause}; nothing of this step was stored: see that it can be reached and written, and repeat it"
            ) from error

    def close(self) -> None:
        self._engine.dispose()


def insert_new(connection: sa.Connection, table: sa.Table, rows: Sequence[dict[str, Any]]) -> set[tuple[Any, ...]]:
    """Insert the rows whose key is not there yet, and return the keys of those."""
    if not rows:
        return set()
    insert: Any = (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)
    statement = insert.on_conflict_do_nothing().returning(*table.primary_key.columns)
    return {tuple(row) for row in connection.execute(statement, rows)}


def _engine(where: str, create: bool) -> sa.Engine:
    if "://" not in where:
        return _sqlite(Path(where), create)
    try:
        url = sa.make_url(re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", where))
    except (sa.exc.ArgumentError, ValueError):
        raise UsageError("the store is a file, or postgresql://USER@HOST:PORT/DATABASE") from None
    if url.get_backend_name() != "postgresql":
        raise UsageError(f"{url.get_backend_name()}: the store is a SQLite file or a postgresql:// URL")
    return sa.create_engine(url, connect_args={"connect_timeout": WAIT_S})


def _sqlite(path: Path, create: bool) -> sa.Engine:
    if not path.exists() and not (create and path.parent.is_dir()):
        raise UsageError(f"{path} does not exist: `edgeticket rollout devices` makes it, in a folder that is there")
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)), connect_args={"timeout": WAIT_S})

    @sa.event.listens_for(engine, "connect")
    def connected(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver's guess
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
        connection.execute("PRAGMA foreign_keys=ON")

    @sa.event.listens_for(engine, "begin")
    def begun(connection: sa.Connection) -> None:
        write = connection.get_execution_options().get("edgeticket_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine
