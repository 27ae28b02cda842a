-- For people with the sqlite3 command: readable times, and the event whole. A file of an older version gets these anew.
CREATE VIEW events AS
    SELECT event.id, datetime(received / 1000, 'unixepoch') AS received, source, type,
        envelope ->> '$.subject' AS subject, envelope ->> '$.data.title' AS title,
        (SELECT count(*) FROM delivery_event WHERE delivery_event.event = event.seq) AS deliveries,
        (SELECT count(*) FROM duplicate WHERE duplicate.event = event.seq) AS duplicates,
        coalesce(substr(envelope, 1, length(envelope) - 2) || iif(envelope LIKE '%{}}', '', ',') || '"payload":'
            || CAST(body AS TEXT) || '}}', envelope) AS json
    FROM event LEFT JOIN request ON request.event = event.seq;
CREATE VIEW deliveries AS
    SELECT delivery.id, route, state, phase, step, attempts, instance, order_key,
        datetime(created / 1000, 'unixepoch') AS created,
        iif(due > 0, datetime(due / 1000, 'unixepoch'), NULL) AS due,
        state = 'pending' AND due IS NULL AS blocked,
        coalesce(failure ->> '$.reason', reason) AS reason, coalesce(failure ->> '$.error', detail) AS detail,
        (SELECT id FROM delivery AS other WHERE other.seq = delivery.successor) AS successor, held = 1 AS held,
        datetime(deadline / 1000, 'unixepoch') AS deadline, datetime(settled / 1000, 'unixepoch') AS settled,
        (SELECT group_concat(event.id) FROM delivery_event JOIN event ON event.seq = delivery_event.event
            WHERE delivery_event.delivery = delivery.seq) AS events,
        (SELECT id FROM delivery AS other WHERE other.seq = delivery.parent) AS parent, asked, cancel
    FROM delivery;
CREATE VIEW attempts AS
    SELECT delivery.id AS delivery, route, attempt.phase, attempt.step, step_id, attempt, attempt.instance,
        datetime(started / 1000, 'unixepoch') AS started, ended - started AS milliseconds, outcome,
        attempt.reason, message, input, output
    FROM attempt JOIN delivery ON delivery.seq = attempt.delivery;
CREATE VIEW generations AS
    SELECT hash AS generation, datetime(since / 1000, 'unixepoch') AS since, cause, displaced,
        text || coalesce((SELECT group_concat(text, '') FROM (SELECT text FROM rules_piece
            WHERE rules_piece.hash = rules.hash ORDER BY number)), '') AS text
    FROM in_force JOIN rules ON rules.seq = in_force.rules;
