-- The journal's tables, in their newest version, for a new file. JOURNAL.md explains them, and how to change them: an older
-- file gets the same by `schema/<version>.sql`. Times are milliseconds since 1970; `seq` is the order of arrival.

-- Rule text by content hash: a generation that an event or a delivery names is here before it. `stored` is when it was
-- last asked to be; the text is empty once nothing needs it any more. Of more than 64 KB it is the beginning.
CREATE TABLE rules (
    seq    INTEGER PRIMARY KEY,
    hash   TEXT NOT NULL UNIQUE,
    stored INTEGER NOT NULL,
    text   TEXT NOT NULL
) STRICT;

-- The rest, in pieces from number 1 on. They come before the text that they go on from, each in a transaction of its own, so
-- that thousands of rules hold nobody up.
CREATE TABLE rules_piece (
    hash   TEXT NOT NULL,
    number INTEGER NOT NULL,
    text   TEXT NOT NULL,
    PRIMARY KEY (hash, number)
) STRICT, WITHOUT ROWID;

-- When which generation came into force. `displaced` is that of the rule files, which a rollback keeps out of use.
CREATE TABLE in_force (
    seq       INTEGER PRIMARY KEY,
    rules     INTEGER NOT NULL REFERENCES rules (seq),
    since     INTEGER NOT NULL,
    cause     TEXT NOT NULL,
    displaced TEXT
) STRICT;

-- One row for each event, without its payload, with the headers of its request that were kept. What lists show is
-- read out of the envelope, but for what they choose by: that has columns of its own. No generated ones: SQLite would
-- work out even the virtual ones at each insert. `emptied` is when all but the provider was removed from the envelope, by
-- retention.
CREATE TABLE event (
    seq         INTEGER PRIMARY KEY,
    id          TEXT NOT NULL,
    received    INTEGER NOT NULL,
    source      TEXT NOT NULL,
    type        TEXT NOT NULL,
    rules       INTEGER NOT NULL REFERENCES rules (seq),
    dedup       TEXT,
    dedup_until INTEGER,
    headers     TEXT NOT NULL,
    envelope    TEXT NOT NULL,
    emptied     INTEGER
) STRICT;
CREATE UNIQUE INDEX event_id ON event (id);

-- What came over the wire: the body once, as it came, until retention removes the row. Apart from the event, so that lists do not read past it, and
-- with nothing beside it, since the fewer bytes a row has, the more rows fill a page.
CREATE TABLE request (
    event INTEGER PRIMARY KEY REFERENCES event (seq),
    body  BLOB NOT NULL
) STRICT;

-- Redeliveries that were recognized.
CREATE TABLE duplicate (
    seq      INTEGER PRIMARY KEY,
    event    INTEGER NOT NULL REFERENCES event (seq),
    received INTEGER NOT NULL
) STRICT;
CREATE INDEX duplicate_event ON duplicate (event);

-- Hashes of dedup keys up to the event `last`, in arrival order: 8 bytes of hash, 4 of `seq`. For a quick start only;
-- the keys themselves are in `event`.
CREATE TABLE dedup_block (
    last    INTEGER PRIMARY KEY,
    until   INTEGER NOT NULL,
    entries BLOB NOT NULL
) STRICT;

-- One row for each delivery. `due` is 0 where it is due at once, a time while it waits, and NULL while it is
-- running, settled, or behind an unsettled delivery of its route and order key. `stalled` is since when nothing could be
-- begun of it for want of something. Of lines (see JOURNAL.md): `replaceable` is 1 where a newer one may take its place, which
-- is then its `successor` (no reference: either may go first when the journal is pruned); `closes` is until when it gathers
-- events at the latest, while it does, and `keep` which of them its steps see; `held` is 1 where it is dead and holds its line up, and 0 once a person let go of that. After `deadline`, nothing
-- is begun of its steps; `bucket` is where it waits to go through. `rested` is when it was told last until when to wait: since it
-- was `created`, where that is all. `gone` is how many of its events are no longer here, where others still are.
-- `key_root` is what idempotency keys of its steps begin with where that is not its own id, and `key_roots` the same for some
-- steps apart, by their ids. `asked` is what a person asked for that made it, and `cancel` that one asked for its end.
CREATE TABLE delivery (
    seq            INTEGER PRIMARY KEY,
    id             TEXT NOT NULL,
    route          TEXT NOT NULL,
    rules          INTEGER NOT NULL REFERENCES rules (seq),
    created        INTEGER NOT NULL,
    parent         INTEGER REFERENCES delivery (seq),
    key_root       TEXT,
    order_key      TEXT,
    first_instance TEXT NOT NULL,
    state          TEXT NOT NULL,
    phase          TEXT NOT NULL,
    step           INTEGER NOT NULL,
    attempts       INTEGER NOT NULL,
    instance       TEXT NOT NULL,
    due            INTEGER,
    owner          TEXT,
    lease          INTEGER,
    stalled        INTEGER,
    reason         TEXT,
    detail         TEXT,
    failure        TEXT,
    settled        INTEGER,
    replaceable    INTEGER,
    successor      INTEGER,
    closes         INTEGER,
    keep           TEXT,
    held           INTEGER,
    deadline       INTEGER,
    key_roots      TEXT,
    asked          TEXT,
    cancel         TEXT,
    bucket         TEXT,
    rested         INTEGER,
    gone           INTEGER
) STRICT;
CREATE UNIQUE INDEX delivery_id ON delivery (id);
CREATE INDEX delivery_due ON delivery (instance, due) WHERE due IS NOT NULL;
CREATE INDEX delivery_lease ON delivery (lease) WHERE lease IS NOT NULL;
CREATE INDEX delivery_key ON delivery (route, order_key)
    WHERE order_key IS NOT NULL AND (settled IS NULL OR held = 1);
CREATE INDEX delivery_head ON delivery (route, order_key)
    WHERE order_key IS NOT NULL AND (held = 1 OR lease IS NOT NULL OR (due IS NOT NULL AND closes IS NULL));
CREATE INDEX delivery_replaceable ON delivery (route, order_key) WHERE replaceable = 1 AND settled IS NULL;
CREATE INDEX delivery_gathering ON delivery (route, order_key) WHERE closes IS NOT NULL;
CREATE INDEX delivery_deadline ON delivery (deadline)
    WHERE deadline IS NOT NULL AND settled IS NULL AND phase = 'steps';
CREATE INDEX delivery_bucket ON delivery (bucket) WHERE state = 'waiting' AND bucket IS NOT NULL;
CREATE INDEX delivery_dead ON delivery (seq) WHERE state = 'dead';
CREATE INDEX delivery_parent ON delivery (parent) WHERE parent IS NOT NULL;

-- Which events a delivery stands for. `time` is when the event happened, where the route goes by that to tell the newest.
CREATE TABLE delivery_event (
    delivery INTEGER NOT NULL REFERENCES delivery (seq),
    event    INTEGER NOT NULL REFERENCES event (seq),
    time     INTEGER,
    PRIMARY KEY (delivery, event)
) STRICT, WITHOUT ROWID;
CREATE INDEX delivery_event_event ON delivery_event (event);

-- The newest event of a line that goes by the time of events, so that one that comes late is known.
CREATE TABLE newest (
    route     TEXT NOT NULL,
    order_key TEXT NOT NULL,
    time      INTEGER NOT NULL,
    delivery  INTEGER NOT NULL,
    PRIMARY KEY (route, order_key)
) STRICT, WITHOUT ROWID;

-- Attempts of steps. Number 0 is the end of a step without a call. Without `ended` it is being made; ended without
-- an outcome it was interrupted. `trace` is a
-- number for how the work directory looked behind it, where it was done and there was something in it.
CREATE TABLE attempt (
    delivery INTEGER NOT NULL REFERENCES delivery (seq),
    phase    TEXT NOT NULL,
    step     INTEGER NOT NULL,
    attempt  INTEGER NOT NULL,
    step_id  TEXT NOT NULL,
    instance TEXT,
    started  INTEGER NOT NULL,
    ended    INTEGER,
    outcome  TEXT,
    reason   TEXT,
    message  TEXT,
    input    TEXT,
    output   TEXT,
    trace    INTEGER,
    PRIMARY KEY (delivery, phase, step, attempt)
) STRICT, WITHOUT ROWID;

-- What bounds attempts: one row for each instance, or instance and key, that is bounded and was gone through lately. `pace` and
-- `tail` are in microseconds: when the next one would come evenly, and where the end of those is that wait. While it `rests`,
-- nothing goes through. After `until` it says nothing any more.
CREATE TABLE bucket (
    name   TEXT PRIMARY KEY,
    pace   INTEGER NOT NULL,
    tail   INTEGER NOT NULL,
    rests  INTEGER,
    reason TEXT,
    detail TEXT,
    until  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX bucket_until ON bucket (until);

-- What plugins keep for themselves; and under names that no instance can have, the router.
CREATE TABLE kv (
    instance TEXT NOT NULL,
    key      TEXT NOT NULL,
    expires  INTEGER,
    value    BLOB NOT NULL,
    PRIMARY KEY (instance, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX kv_expires ON kv (expires) WHERE expires IS NOT NULL;

-- What a step was about to do, or has done, by its idempotency key.
CREATE TABLE receipt (
    key   TEXT PRIMARY KEY,
    stage TEXT NOT NULL,
    kept  INTEGER NOT NULL,
    body  BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- How many rows there are of what, kept along, so that nobody has to count.
CREATE TABLE tally (
    name  TEXT PRIMARY KEY,
    count INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO tally VALUES
    ('event', 0), ('duplicate', 0), ('pending', 0), ('running', 0), ('waiting', 0), ('succeeded', 0), ('dead', 0),
    ('superseded', 0), ('canceled', 0);
