//! Finds what may go, by reading alone.

use jackfield_event::{EventId, Timestamp};
use rusqlite::Connection;

use super::{Ages, Candidate, Layer, Piece, UNNEEDED_RULES, Verdict, WHOLE, forgotten, rules_cutoff};
use crate::journal::{Retention, sqlite::schema};

/// Where the search stands, between one piece and the next.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Search {
    cursors: [Cursor; Layer::ALL.len()],
    /// When it last began anew with what was needed.
    began: i64,
    /// Whether what is rarely there is still to be looked for.
    leftovers: bool,
}

/// Up to where a layer has been dealt with.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    /// Every event up to here has lost it, or stands behind one of those below.
    after: i64,
    /// The first whose age had not come though that of later ones may have, and when the first age of such comes: they have
    /// a dead letter, or were owed or replayed for long.
    young: Option<(i64, i64)>,
    /// The first that is needed.
    needed: Option<i64>,
}

/// What a look found.
#[derive(Debug, Default)]
pub(in super::super) struct Found {
    pub(in super::super) piece: Option<Piece>,
    pub(in super::super) exceeded: bool,
    /// It broke off: a reader that looks for long keeps the log from beginning anew.
    pub(in super::super) more: bool,
}

impl Search {
    /// The next piece of work, where there is one.
    pub(in super::super) fn look(
        &mut self,
        connection: &Connection,
        retention: &Retention,
        now: Timestamp,
    ) -> rusqlite::Result<Found> {
        if !(self.began..self.began + LONG).contains(&now.as_millis()) {
            self.begin_anew(now.as_millis());
        }
        let size = Size::of(connection)?;
        let events: i64 = connection
            .prepare_cached("SELECT count FROM tally WHERE name = 'event'")?
            .query_row([], |row| row.get(0))?;
        let too_large = size.used() > i64::try_from(retention.max_bytes).unwrap_or(i64::MAX);
        let too_many = retention
            .max_events
            .is_some_and(|most| events > i64::try_from(most).unwrap_or(i64::MAX));
        let mut ages = Ages {
            retention,
            share: WHOLE,
            now: now.as_millis(),
            forgotten: forgotten(connection)?,
        };
        let exceeded = too_large || too_many;
        let shares = if exceeded { &SHARES[..] } else { &SHARES[..1] };
        for share in shares {
            ages.share = *share;
            for layer in Layer::ALL {
                // That there are too many is helped by nothing but their going.
                if *share < WHOLE && !too_large && layer != Layer::Outcome {
                    continue;
                }
                let (events, over) = self.events(connection, &ages, layer)?;
                if events.is_empty() && !over {
                    return Ok(Found {
                        more: true,
                        ..Found::default()
                    });
                }
                if !events.is_empty() {
                    return Ok(Found {
                        piece: Some(Piece::Events {
                            layer,
                            share: *share,
                            events,
                        }),
                        ..Found::default()
                    });
                }
            }
        }
        ages.share = WHOLE;
        let mut piece = None;
        if self.leftovers {
            piece = leftovers(connection, &ages)?;
            self.leftovers = piece.is_some();
        }
        Ok(Found {
            piece: piece.or_else(|| size.is_worth_shrinking().then_some(Piece::FreePages)),
            exceeded,
            more: false,
        })
    }

    /// What was needed may not be any more.
    fn begin_anew(&mut self, now: i64) {
        self.began = now;
        self.leftovers = true;
        for cursor in &mut self.cursors {
            if let Some(needed) = cursor.needed.take() {
                cursor.go_back_to(needed);
            }
        }
    }

    /// The next events that may lose the layer, the oldest first, and whether it looked to the end where there are none.
    fn events(
        &mut self,
        connection: &Connection,
        ages: &Ages<'_>,
        layer: Layer,
    ) -> rusqlite::Result<(Vec<Candidate>, bool)> {
        let cursor = &mut self.cursors[layer as usize];
        let Some(last) = newest_before(connection, ages.cutoff(layer))? else {
            return Ok((Vec::new(), true));
        };
        if let Some((young, _)) = cursor
            .young
            .take_if(|(_, comes)| ages.share < WHOLE || *comes <= ages.now)
        {
            cursor.go_back_to(young);
        }
        let mut found = Vec::new();
        // Where ages have shrunk, it begins anew each time, and must come to the end.
        let looks = if ages.share == WHOLE { LOOKS } else { usize::MAX };
        for _ in 0..looks {
            let looked = candidates(connection, layer, cursor.after, last)?;
            if looked.is_empty() {
                return Ok((found, true));
            }
            for event in looked {
                cursor.after = event.seq;
                match ages.judge(connection, layer, event)? {
                    Verdict::Go => found.push(event),
                    Verdict::Young { comes } => cursor.pass_over(event.seq, comes),
                    Verdict::Needed => cursor.needed = cursor.needed.or(Some(event.seq)),
                }
                if found.len() == layer.piece() {
                    return Ok((found, false));
                }
            }
        }
        Ok((found, false))
    }
}

impl Search {
    /// This one was found, and has not lost the layer yet.
    pub(in super::super) fn go_back_to(&mut self, layer: Layer, event: i64) {
        self.cursors[layer as usize].go_back_to(event);
    }
}

impl Cursor {
    fn go_back_to(&mut self, event: i64) {
        self.after = self.after.min(event - 1);
    }

    /// Leaves an event behind whose age comes at that moment.
    fn pass_over(&mut self, event: i64, comes: i64) {
        self.young = Some(match self.young {
            Some((first, soonest)) => (first.min(event), soonest.min(comes)),
            None => (event, comes),
        });
    }
}

impl Layer {
    /// How many events lose it at once: few enough that a group of the writer's hardly grows.
    fn piece(self) -> usize {
        match self {
            Self::Payload | Self::Envelope => 128,
            Self::Outcome => 64,
        }
    }
}

/// The newest event that arrived before `cutoff`. Ids sort by time, and have an index; events of one moment were committed
/// in any order.
fn newest_before(connection: &Connection, cutoff: i64) -> rusqlite::Result<Option<i64>> {
    let Some(cutoff) = Timestamp::from_millis(cutoff.max(0)) else {
        return Ok(None);
    };
    connection
        .prepare_cached(
            "SELECT max(seq) FROM (SELECT seq FROM event WHERE id <= ? ORDER BY id DESC LIMIT 1024)",
        )?
        .query_row([EventId::new(cutoff, u128::MAX).to_string()], |row| row.get(0))
}

fn candidates(
    connection: &Connection,
    layer: Layer,
    after: i64,
    last: i64,
) -> rusqlite::Result<Vec<Candidate>> {
    let sql = match layer {
        Layer::Payload => {
            "SELECT seq, received, dedup_until FROM request CROSS JOIN event ON event.seq = request.event \
             WHERE request.event > ? AND request.event <= ? ORDER BY request.event LIMIT 256"
        }
        Layer::Envelope => {
            "SELECT seq, received, dedup_until FROM event WHERE seq > ? AND seq <= ? AND emptied IS NULL \
             ORDER BY seq LIMIT 256"
        }
        Layer::Outcome => {
            // Not the newest: the numbers go on from it, also after a restart.
            "SELECT seq, received, dedup_until FROM event WHERE seq > ? AND seq <= ? \
             AND seq < (SELECT max(seq) FROM event) ORDER BY seq LIMIT 256"
        }
    };
    connection
        .prepare_cached(sql)?
        .query_map([after, last], |row| {
            Ok(Candidate {
                seq: row.get(0)?,
                received: row.get(1)?,
                dedup_until: row.get(2)?,
            })
        })?
        .collect()
}

/// What outlives the events that it came with: rule text, and receipts of what was no delivery.
fn leftovers(connection: &Connection, ages: &Ages<'_>) -> rusqlite::Result<Option<Piece>> {
    let cutoff = rules_cutoff(connection, ages)?;
    let rules: bool = connection
        .prepare_cached(&format!("SELECT EXISTS ({UNNEEDED_RULES})"))?
        .query_row([cutoff], |row| row.get(0))?;
    if rules {
        return Ok(Some(Piece::Rules));
    }
    let receipts: Vec<String> = connection
        .prepare_cached(
            "SELECT key FROM receipt WHERE kept <= ? AND NOT EXISTS (SELECT 1 FROM delivery \
             WHERE id = substr(key, 1, instr(key || '/', '/') - 1)) LIMIT 128",
        )?
        .query_map([ages.cutoff(Layer::Outcome)], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(Some(receipts)
        .filter(|keys| !keys.is_empty())
        .map(Piece::Receipts))
}

/// The database file in pages.
struct Size {
    page: i64,
    pages: i64,
    free: i64,
    can_shrink: bool,
}

impl Size {
    fn of(connection: &Connection) -> rusqlite::Result<Self> {
        let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        Ok(Self {
            page: pragma("page_size")?,
            pages: pragma("page_count")?,
            free: pragma("freelist_count")?,
            can_shrink: schema::gives_pages_back(connection)?,
        })
    }

    /// Bytes that hold something.
    fn used(&self) -> i64 {
        (self.pages - self.free) * self.page
    }

    /// Free pages are used next. So few of them are left alone: only what a burst left behind is given back.
    fn is_worth_shrinking(&self) -> bool {
        self.can_shrink && self.free > (self.pages / 4).max(SPARE / self.page)
    }
}

/// How many times 256 events are looked at before the others have their turn.
const LOOKS: usize = 8;

/// Free bytes that stay in any case.
const SPARE: i64 = 16 << 20;

/// By which ages shrink, step by step, where limits are exceeded.
const SHARES: [u32; 8] = [WHOLE, 14, 12, 9, 6, 3, 1, 0];

/// After this long the search begins anew, in milliseconds: what was not settled may be, and what is rarely there is looked for.
const LONG: i64 = 600_000;
