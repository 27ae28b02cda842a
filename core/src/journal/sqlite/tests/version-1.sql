-- A journal of version 1, as `sqlite3 journal.db .dump` writes it: deliveries in every state, and everything else that
-- version 1 knew. Never changed: this is what lies on people's disks.
PRAGMA application_id = 1247896427;
PRAGMA user_version = 1;
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE rules (
    seq    INTEGER PRIMARY KEY,
    hash   TEXT NOT NULL UNIQUE,
    stored INTEGER NOT NULL,
    text   TEXT NOT NULL
) STRICT;
INSERT INTO rules VALUES(1,'0123abcd',1767225600000,'the rules');
INSERT INTO rules VALUES(2,'4567cdef',1767225600000,'older rules');
CREATE TABLE in_force (
    seq       INTEGER PRIMARY KEY,
    rules     INTEGER NOT NULL REFERENCES rules (seq),
    since     INTEGER NOT NULL,
    cause     TEXT NOT NULL,
    displaced TEXT
) STRICT;
INSERT INTO in_force VALUES(1,2,1767225600000,'start',NULL);
INSERT INTO in_force VALUES(2,1,1767225601000,'change',NULL);
INSERT INTO in_force VALUES(3,2,1767225601000,'rollback','0123abcd');
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
    envelope    TEXT NOT NULL
) STRICT;
INSERT INTO event VALUES(1,'evt_01kdvdna00rqy5k3kgfss92e7m',1767225600000,'screens','io.zeplin.project.screen.created',1,'screen-1',1767225700000,'[["user-agent","Zeplin"]]','{"specversion":"1.0","id":"evt_01kdvdna00rqy5k3kgfss92e7m","source":"/in/screens","type":"io.zeplin.project.screen.created","subject":"screen/7","time":"2026-01-01T00:00:00Z","datacontenttype":"application/json","dataschema":"urn:jackfield:event:1","provider":"zeplin","sourcename":"screens","verified":"signature","data":{"title":"A screen"}}');
INSERT INTO event VALUES(2,'evt_01kdvdnaz83q8tr27sseyjrak0',1767225601000,'screens','io.zeplin.project.screen.created',1,'screen-2',1767225701000,'[["user-agent","Zeplin"]]','{"specversion":"1.0","id":"evt_01kdvdnaz83q8tr27sseyjrak0","source":"/in/screens","type":"io.zeplin.project.screen.created","subject":"screen/7","time":"2026-01-01T00:00:01Z","datacontenttype":"application/json","dataschema":"urn:jackfield:event:1","provider":"zeplin","sourcename":"screens","verified":"signature","data":{"title":"A screen"}}');
INSERT INTO event VALUES(3,'evt_01kdvdnbygsam3py0365b5t5xh',1767225602000,'screens','io.zeplin.project.screen.created',1,NULL,NULL,'[["user-agent","Zeplin"]]','{"specversion":"1.0","id":"evt_01kdvdnbygsam3py0365b5t5xh","source":"/in/screens","type":"io.zeplin.project.screen.created","subject":"screen/7","time":"2026-01-01T00:00:02Z","datacontenttype":"application/json","dataschema":"urn:jackfield:event:1","provider":"zeplin","sourcename":"screens","verified":"signature","data":{"title":"A screen"}}');
INSERT INTO event VALUES(4,'evt_01kdvdnbyg4e1hen1twpstawdr',1767225602000,'screens','io.zeplin.project.screen.created',1,NULL,NULL,'[["user-agent","Zeplin"]]','{"specversion":"1.0","id":"evt_01kdvdnbyg4e1hen1twpstawdr","source":"/in/screens","type":"io.zeplin.project.screen.created","subject":"screen/7","time":"2026-01-01T00:00:02Z","datacontenttype":"application/json","dataschema":"urn:jackfield:event:1","provider":"zeplin","sourcename":"screens","verified":"signature","data":{"title":"A screen"}}');
INSERT INTO event VALUES(5,'evt_01kdvdncxrkvej70yv8992j1ta',1767225603000,'screens','io.zeplin.project.screen.created',1,NULL,NULL,'[["user-agent","Zeplin"]]','{"specversion":"1.0","id":"evt_01kdvdncxrkvej70yv8992j1ta","source":"/in/screens","type":"io.zeplin.project.screen.created","subject":"screen/7","time":"2026-01-01T00:00:03Z","datacontenttype":"application/json","dataschema":"urn:jackfield:event:1","provider":"zeplin","sourcename":"screens","verified":"signature","data":{"title":"A screen"}}');
INSERT INTO event VALUES(6,'evt_01kdvdndx0zjnszc639kmmkp3h',1767225604000,'screens','io.zeplin.project.screen.created',1,'push-0',1767225704000,'[["user-agent","Zeplin"]]','{"specversion":"1.0","id":"evt_01kdvdndx0zjnszc639kmmkp3h","source":"/in/screens","type":"io.zeplin.project.screen.created","subject":"screen/7","time":"2026-01-01T00:00:04Z","datacontenttype":"application/json","dataschema":"urn:jackfield:event:1","provider":"zeplin","sourcename":"screens","verified":"signature","data":{"title":"A screen"}}');
INSERT INTO event VALUES(7,'evt_01kdvdnew8fp15j3wqv9baczhj',1767225605000,'screens','io.zeplin.project.screen.created',1,'push-1',1767225705000,'[["user-agent","Zeplin"]]','{"specversion":"1.0","id":"evt_01kdvdnew8fp15j3wqv9baczhj","source":"/in/screens","type":"io.zeplin.project.screen.created","subject":"screen/7","time":"2026-01-01T00:00:05Z","datacontenttype":"application/json","dataschema":"urn:jackfield:event:1","provider":"zeplin","sourcename":"screens","verified":"signature","data":{"title":"A screen"}}');
INSERT INTO event VALUES(8,'evt_01kdvdnfvgse553wjr1em36veh',1767225606000,'screens','io.zeplin.project.screen.created',1,'push-2',1767225706000,'[["user-agent","Zeplin"]]','{"specversion":"1.0","id":"evt_01kdvdnfvgse553wjr1em36veh","source":"/in/screens","type":"io.zeplin.project.screen.created","subject":"screen/7","time":"2026-01-01T00:00:06Z","datacontenttype":"application/json","dataschema":"urn:jackfield:event:1","provider":"zeplin","sourcename":"screens","verified":"signature","data":{"title":"A screen"}}');
INSERT INTO event VALUES(9,'evt_01kdvdngtrgkgxh92yvehq8v14',1767225607000,'screens','io.zeplin.project.screen.created',1,'push-3',1767225707000,'[["user-agent","Zeplin"]]','{"specversion":"1.0","id":"evt_01kdvdngtrgkgxh92yvehq8v14","source":"/in/screens","type":"io.zeplin.project.screen.created","subject":"screen/7","time":"2026-01-01T00:00:07Z","datacontenttype":"application/json","dataschema":"urn:jackfield:event:1","provider":"zeplin","sourcename":"screens","verified":"signature","data":{"title":"A screen"}}');
INSERT INTO event VALUES(10,'evt_01kdvdnjs8xw0fmcck4eashn8j',1767225609000,'screens','io.zeplin.project.screen.created',1,'none',1767225709000,'[["user-agent","Zeplin"]]','{"specversion":"1.0","id":"evt_01kdvdnjs8xw0fmcck4eashn8j","source":"/in/screens","type":"io.zeplin.project.screen.created","subject":"screen/7","time":"2026-01-01T00:00:09Z","datacontenttype":"application/json","dataschema":"urn:jackfield:event:1","provider":"zeplin","sourcename":"screens","verified":"signature","data":{"title":"A screen"}}');
CREATE TABLE request (
    event INTEGER PRIMARY KEY REFERENCES event (seq),
    body  BLOB NOT NULL
) STRICT;
INSERT INTO request VALUES(1,X'7b2022c3a4223a20312e35302c0d0a2022c3a4223a2032207d');
INSERT INTO request VALUES(2,X'7b2022c3a4223a20312e35302c0d0a2022c3a4223a2032207d');
INSERT INTO request VALUES(3,X'7b2022c3a4223a20312e35302c0d0a2022c3a4223a2032207d');
INSERT INTO request VALUES(4,X'7b2022c3a4223a20312e35302c0d0a2022c3a4223a2032207d');
INSERT INTO request VALUES(5,X'7b2022c3a4223a20312e35302c0d0a2022c3a4223a2032207d');
INSERT INTO request VALUES(6,X'7b2022c3a4223a20312e35302c0d0a2022c3a4223a2032207d');
INSERT INTO request VALUES(7,X'7b2022c3a4223a20312e35302c0d0a2022c3a4223a2032207d');
INSERT INTO request VALUES(8,X'7b2022c3a4223a20312e35302c0d0a2022c3a4223a2032207d');
INSERT INTO request VALUES(9,X'7b2022c3a4223a20312e35302c0d0a2022c3a4223a2032207d');
INSERT INTO request VALUES(10,X'7b2022c3a4223a20312e35302c0d0a2022c3a4223a2032207d');
CREATE TABLE duplicate (
    seq      INTEGER PRIMARY KEY,
    event    INTEGER NOT NULL REFERENCES event (seq),
    received INTEGER NOT NULL
) STRICT;
INSERT INTO duplicate VALUES(1,1,1767225601000);
CREATE TABLE dedup_block (
    last    INTEGER PRIMARY KEY,
    until   INTEGER NOT NULL,
    entries BLOB NOT NULL
) STRICT;
INSERT INTO dedup_block VALUES(1,1767225700000,X'000102030405060701000000');
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
    settled        INTEGER
) STRICT;
INSERT INTO delivery VALUES(1,'dlv_01kdvdna006ae7zz8vn16xa7fs','card',1,1767225600000,NULL,NULL,NULL,'slack','succeeded','steps',1,1,'slack',NULL,NULL,NULL,NULL,NULL,NULL,NULL,1767225602000);
INSERT INTO delivery VALUES(2,'dlv_01kdvdnaz83vtm6x0j11xwcgzd','card',1,1767225601000,NULL,NULL,NULL,'slack','dead','steps',0,1,'slack',NULL,NULL,NULL,NULL,NULL,NULL,'{"step":"step-0","reason":"plugin-fatal","error":"it broke"}',1767225602000);
INSERT INTO delivery VALUES(3,'dlv_01kdvdnaz8nsk60yjt5dnzahka','card',1,1767225601000,2,'dlv_01kdvdnaz83vtm6x0j11xwcgzd',NULL,'slack','running','steps',0,1,'slack',NULL,'me',1767225611000,NULL,NULL,NULL,NULL,NULL);
INSERT INTO delivery VALUES(4,'dlv_01kdvdnbygdwk70cgjjgbdsbyp','card',1,1767225602000,NULL,NULL,NULL,'slack','waiting','steps',0,1,'slack',1767225660000,NULL,NULL,NULL,'plugin-retry','503',NULL,NULL);
INSERT INTO delivery VALUES(5,'dlv_01kdvdnbyg3m6fbvsenyybqy2q','build',1,1767225602000,NULL,NULL,NULL,'fetch','waiting','steps',0,0,'fetch',1767225690000,NULL,NULL,1767225601000,'instance-missing','no `fetch`',NULL,NULL);
INSERT INTO delivery VALUES(6,'dlv_01kdvdncxr3b7r0b9zdx36dva8','build',1,1767225603000,NULL,NULL,NULL,'git','waiting','on-failure',0,1,'slack',1767225720000,NULL,NULL,NULL,'plugin-retry','503','{"step":"step-0","reason":"plugin-fatal","error":"it broke"}',NULL);
INSERT INTO delivery VALUES(7,'dlv_01kdvdndx04b637w512w17mqr6','build',1,1767225604000,NULL,NULL,'main','git','pending','steps',0,0,'git',0,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO delivery VALUES(8,'dlv_01kdvdnew8et3nev9163jadzw8','build',1,1767225605000,NULL,NULL,'main','git','pending','steps',0,0,'git',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO delivery VALUES(9,'dlv_01kdvdnfvgmc5rkt7sv68ye0bx','build',1,1767225606000,NULL,NULL,'main','git','superseded','steps',0,0,'git',NULL,NULL,NULL,NULL,NULL,NULL,NULL,1767225606005);
INSERT INTO delivery VALUES(10,'dlv_01kdvdngtr4d57t94m0b2sshvt','build',1,1767225607000,NULL,NULL,'main','git','canceled','steps',0,0,'git',NULL,NULL,NULL,NULL,'canceled',NULL,NULL,1767225607005);
CREATE TABLE delivery_event (
    delivery INTEGER NOT NULL REFERENCES delivery (seq),
    event    INTEGER NOT NULL REFERENCES event (seq),
    PRIMARY KEY (delivery, event)
) STRICT, WITHOUT ROWID;
INSERT INTO delivery_event VALUES(1,1);
INSERT INTO delivery_event VALUES(2,2);
INSERT INTO delivery_event VALUES(3,2);
INSERT INTO delivery_event VALUES(4,3);
INSERT INTO delivery_event VALUES(5,4);
INSERT INTO delivery_event VALUES(6,5);
INSERT INTO delivery_event VALUES(7,6);
INSERT INTO delivery_event VALUES(8,7);
INSERT INTO delivery_event VALUES(9,8);
INSERT INTO delivery_event VALUES(10,9);
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
    PRIMARY KEY (delivery, phase, step, attempt)
) STRICT, WITHOUT ROWID;
INSERT INTO attempt VALUES(1,'steps',0,1,'step-0','slack',1767225601000,1767225602000,'done',NULL,'said so','{"text":"hello"}','{"of":0}');
INSERT INTO attempt VALUES(1,'steps',1,1,'step-1','slack',1767225601000,1767225602000,'done',NULL,'said so','{"text":"hello"}','{"of":1}');
INSERT INTO attempt VALUES(2,'steps',0,1,'step-0','slack',1767225601000,1767225602000,'done',NULL,'said so','{"text":"hello"}','{"of":0}');
INSERT INTO attempt VALUES(3,'steps',0,1,'step-0','slack',1767225601000,NULL,NULL,NULL,NULL,'{"text":"hello"}',NULL);
INSERT INTO attempt VALUES(4,'steps',0,1,'step-0','slack',1767225601000,1767225602000,'retry','plugin-retry','said so','{"text":"hello"}',NULL);
INSERT INTO attempt VALUES(6,'on-failure',0,1,'step-0','slack',1767225601000,1767225602000,'retry','plugin-retry','said so','{"text":"hello"}',NULL);
INSERT INTO attempt VALUES(6,'steps',0,0,'step-0',NULL,1767225602000,1767225602000,'skipped','plugin-retry','said so',NULL,NULL);
INSERT INTO attempt VALUES(6,'steps',1,1,'step-1','slack',1767225601000,1767225602000,'fatal','plugin-retry','said so','{"text":"hello"}',NULL);
CREATE TABLE kv (
    instance TEXT NOT NULL,
    key      TEXT NOT NULL,
    expires  INTEGER,
    value    BLOB NOT NULL,
    PRIMARY KEY (instance, key)
) STRICT, WITHOUT ROWID;
INSERT INTO kv VALUES('slack','channel',NULL,X'4331');
INSERT INTO kv VALUES('slack','thread',1767226601000,X'5431');
CREATE TABLE receipt (
    key   TEXT PRIMARY KEY,
    stage TEXT NOT NULL,
    kept  INTEGER NOT NULL,
    body  BLOB NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO receipt VALUES('dlv_01kdvdna006ae7zz8vn16xa7fs/step-0','done',1767225601000,X'7b227473223a317d');
INSERT INTO receipt VALUES('dlv_01kdvdnaz8nsk60yjt5dnzahka/step-0','intent',1767225601000,X'7b226368616e6e656c223a317d');
CREATE TABLE tally (
    name  TEXT PRIMARY KEY,
    count INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO tally VALUES('canceled',1);
INSERT INTO tally VALUES('dead',1);
INSERT INTO tally VALUES('duplicate',1);
INSERT INTO tally VALUES('event',10);
INSERT INTO tally VALUES('pending',2);
INSERT INTO tally VALUES('running',1);
INSERT INTO tally VALUES('succeeded',1);
INSERT INTO tally VALUES('superseded',1);
INSERT INTO tally VALUES('waiting',3);
CREATE UNIQUE INDEX event_id ON event (id);
CREATE INDEX duplicate_event ON duplicate (event);
CREATE UNIQUE INDEX delivery_id ON delivery (id);
CREATE INDEX delivery_due ON delivery (instance, due) WHERE due IS NOT NULL;
CREATE INDEX delivery_lease ON delivery (lease) WHERE lease IS NOT NULL;
CREATE INDEX delivery_key ON delivery (route, order_key) WHERE order_key IS NOT NULL AND settled IS NULL;
CREATE INDEX delivery_dead ON delivery (seq) WHERE state = 'dead';
CREATE INDEX delivery_event_event ON delivery_event (event);
CREATE INDEX kv_expires ON kv (expires) WHERE expires IS NOT NULL;
CREATE VIEW events AS
    SELECT event.id, datetime(received / 1000, 'unixepoch') AS received, source, type,
        envelope ->> '$.subject' AS subject, envelope ->> '$.data.title' AS title,
        (SELECT count(*) FROM delivery_event WHERE delivery_event.event = event.seq) AS deliveries,
        (SELECT count(*) FROM duplicate WHERE duplicate.event = event.seq) AS duplicates,
        substr(envelope, 1, length(envelope) - 2) || iif(envelope LIKE '%{}}', '', ',') || '"payload":'
            || CAST(body AS TEXT) || '}}' AS json
    FROM event JOIN request ON request.event = event.seq;
CREATE VIEW deliveries AS
    SELECT delivery.id, route, state, phase, step, attempts, instance, order_key,
        datetime(created / 1000, 'unixepoch') AS created,
        iif(due > 0, datetime(due / 1000, 'unixepoch'), NULL) AS due,
        state = 'pending' AND due IS NULL AS blocked,
        coalesce(failure ->> '$.reason', reason) AS reason, coalesce(failure ->> '$.error', detail) AS detail,
        datetime(settled / 1000, 'unixepoch') AS settled,
        (SELECT group_concat(event.id) FROM delivery_event JOIN event ON event.seq = delivery_event.event
            WHERE delivery_event.delivery = delivery.seq) AS events
    FROM delivery;
CREATE VIEW attempts AS
    SELECT delivery.id AS delivery, route, attempt.phase, attempt.step, step_id, attempt, attempt.instance,
        datetime(started / 1000, 'unixepoch') AS started, ended - started AS milliseconds, outcome,
        attempt.reason, message, input, output
    FROM attempt JOIN delivery ON delivery.seq = attempt.delivery;
CREATE VIEW generations AS
    SELECT hash AS generation, datetime(since / 1000, 'unixepoch') AS since, cause, displaced, text
    FROM in_force JOIN rules ON rules.seq = in_force.rules;
COMMIT;
