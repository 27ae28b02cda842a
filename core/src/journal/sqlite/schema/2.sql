-- From version 1 to 2, whatever version 2 adds to the tables. Columns go to the end of theirs, as in `schema.sql`.

-- Lines: what supersedes, gathers and holds up.
ALTER TABLE delivery ADD COLUMN replaceable INTEGER;
ALTER TABLE delivery ADD COLUMN successor INTEGER;
ALTER TABLE delivery ADD COLUMN closes INTEGER;
ALTER TABLE delivery ADD COLUMN keep TEXT;
ALTER TABLE delivery ADD COLUMN held INTEGER;
ALTER TABLE delivery_event ADD COLUMN time INTEGER;
DROP INDEX delivery_key;
CREATE INDEX delivery_key ON delivery (route, order_key)
    WHERE order_key IS NOT NULL AND (settled IS NULL OR held = 1);
CREATE INDEX delivery_head ON delivery (route, order_key)
    WHERE order_key IS NOT NULL AND (held = 1 OR lease IS NOT NULL OR (due IS NOT NULL AND closes IS NULL));
CREATE INDEX delivery_replaceable ON delivery (route, order_key) WHERE replaceable = 1 AND settled IS NULL;
CREATE INDEX delivery_gathering ON delivery (route, order_key) WHERE closes IS NOT NULL;
CREATE TABLE newest (
    route     TEXT NOT NULL,
    order_key TEXT NOT NULL,
    time      INTEGER NOT NULL,
    delivery  INTEGER NOT NULL,
    PRIMARY KEY (route, order_key)
) STRICT, WITHOUT ROWID;

-- Deadlines.
ALTER TABLE delivery ADD COLUMN deadline INTEGER;
CREATE INDEX delivery_deadline ON delivery (deadline)
    WHERE deadline IS NOT NULL AND settled IS NULL AND phase = 'steps';

-- What people ask for: replays, whose steps may have keys of their own, and the end of deliveries; which steps left files.
ALTER TABLE delivery ADD COLUMN key_roots TEXT;
ALTER TABLE delivery ADD COLUMN asked TEXT;
ALTER TABLE delivery ADD COLUMN cancel TEXT;
ALTER TABLE attempt ADD COLUMN trace INTEGER;
CREATE INDEX delivery_parent ON delivery (parent) WHERE parent IS NOT NULL;

-- Retention: events that have lost their envelope, and what names a delivery that goes.
ALTER TABLE event ADD COLUMN emptied INTEGER;

-- Bounds on attempts.
ALTER TABLE delivery ADD COLUMN bucket TEXT;
ALTER TABLE delivery ADD COLUMN rested INTEGER;
CREATE INDEX delivery_bucket ON delivery (bucket) WHERE state = 'waiting' AND bucket IS NOT NULL;
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

-- Bursts of which some events are gone.
ALTER TABLE delivery ADD COLUMN gone INTEGER;

-- Text of many rules in pieces.
CREATE TABLE rules_piece (
    hash   TEXT NOT NULL,
    number INTEGER NOT NULL,
    text   TEXT NOT NULL,
    PRIMARY KEY (hash, number)
) STRICT, WITHOUT ROWID;
