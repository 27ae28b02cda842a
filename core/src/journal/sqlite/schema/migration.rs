//! How the tables come to be: made in their newest version, or brought up to it from an older one.

use rusqlite::{Connection, Transaction, TransactionBehavior};

/// The version of the tables that this code reads and writes. Until it is released, `2.sql` may still change.
pub(in super::super) const VERSION: i64 = 2;

/// What brings the tables of the version before to this one, for each version since the first.
const STEPS: &[(i64, &str)] = &[(2, include_str!("2.sql"))];

const TABLES: &str = include_str!("../schema.sql");
const VIEWS: &str = include_str!("../views.sql");

/// "Jack", so that `file` and SQLite can tell a journal from other databases.
pub(super) const APPLICATION: i64 = 0x4a61_636b;

/// Makes the tables, or nothing.
pub(super) fn create(connection: &Connection) -> rusqlite::Result<()> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    transaction.execute_batch(TABLES)?;
    transaction.execute_batch(VIEWS)?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

/// Brings the tables from version `found` to the newest, or leaves everything as it was.
pub(super) fn migrate(connection: &Connection, found: i64) -> rusqlite::Result<()> {
    migrate_by(connection, found, STEPS)
}

fn migrate_by(connection: &Connection, found: i64, steps: &[(i64, &str)]) -> rusqlite::Result<()> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    // A table whose column a view shows cannot lose it. So steps know tables alone, and views are made anew after.
    for view in views(&transaction)? {
        transaction.execute_batch(&format!("DROP VIEW \"{}\"", view.replace('"', "\"\"")))?;
    }
    for (version, step) in steps {
        if *version > found {
            transaction.execute_batch(step)?;
        }
    }
    transaction.execute_batch(VIEWS)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

fn views(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'view'")?
        .query_map([], |row| row.get(0))?
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::Path};

    use super::*;
    use crate::journal::sqlite::schema::{self, OpenError};

    /// What lies on people's disks: one file for each version that there has been.
    const FIXTURES: &[(i64, &str)] = &[(1, include_str!("../tests/version-1.sql"))];

    fn lay(directory: &Path, fixture: &str) -> Connection {
        let connection = Connection::open(schema::file(directory)).unwrap();
        connection.pragma_update(None, "page_size", 16 * 1024).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        connection.execute_batch(fixture).unwrap();
        connection
    }

    fn lines(connection: &Connection, sql: &str) -> Vec<String> {
        let mut statement = connection.prepare(sql).unwrap();
        let columns = statement.column_count();
        statement
            .query_map([], |row| {
                let values = (0..columns).map(|at| row.get::<_, rusqlite::types::Value>(at));
                values
                    .map(|value| value.map(|value| format!("{value:?}")))
                    .collect()
            })
            .unwrap()
            .map(|line: rusqlite::Result<Vec<_>>| line.unwrap().join(" "))
            .collect()
    }

    /// Tables with their columns in order, what they refer to, indexes, views, and which tallies are kept.
    fn shape(connection: &Connection) -> Vec<String> {
        [
            "SELECT name, type, strict, wr FROM pragma_table_list WHERE schema = 'main' ORDER BY name",
            "SELECT tables.name, c.cid, c.name, c.type, c.\"notnull\", c.dflt_value, c.pk FROM pragma_table_list AS tables, \
             pragma_table_xinfo(tables.name) AS c WHERE tables.schema = 'main' AND tables.type = 'table' ORDER BY 1, 2",
            "SELECT tables.name, k.\"from\", k.\"table\", k.\"to\", k.on_delete FROM pragma_table_list AS tables, \
             pragma_foreign_key_list(tables.name) AS k WHERE tables.schema = 'main' ORDER BY 1, 2",
            "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE type IN ('index', 'view', 'trigger') ORDER BY name",
            "SELECT name FROM tally ORDER BY name",
        ]
        .iter()
        .flat_map(|sql| lines(connection, sql))
        .collect()
    }

    /// The rows of each table, by the columns that it has in `like`.
    fn rows(connection: &Connection, like: &Connection) -> BTreeMap<String, Vec<String>> {
        let tables: Vec<String> = like
            .prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let read = |table: String| {
            let columns: String = like
                .query_row(
                    "SELECT group_concat(name, ', ') FROM pragma_table_xinfo(?)",
                    [&table],
                    |row| row.get(0),
                )
                .unwrap();
            let sql = format!("SELECT {columns} FROM {table} ORDER BY 1, 2");
            (table, lines(connection, &sql))
        };
        tables.into_iter().map(read).collect()
    }

    fn new(directory: &Path) -> Connection {
        schema::open_to_write(directory).unwrap()
    }

    #[test]
    fn there_is_a_step_and_a_fixture_for_each_version() {
        let steps: Vec<_> = STEPS.iter().map(|(version, _)| *version).collect();
        assert_eq!(steps, (2..=VERSION).collect::<Vec<_>>());
        let fixtures: Vec<_> = FIXTURES.iter().map(|(version, _)| *version).collect();
        assert_eq!(fixtures, (1..VERSION).collect::<Vec<_>>());
    }

    #[test]
    fn a_journal_of_each_version_becomes_what_a_new_one_is_and_keeps_every_row() {
        let fresh = tempfile::tempdir().unwrap();
        let fresh = shape(&new(fresh.path()));
        for (version, fixture) in FIXTURES {
            let [old, migrated] = [(); 2].map(|()| tempfile::tempdir().unwrap());
            let old = lay(old.path(), fixture);
            drop(lay(migrated.path(), fixture));
            let migrated = new(migrated.path());
            let shape = shape(&migrated);
            let differences: Vec<_> = fresh
                .iter()
                .filter(|line| !shape.contains(line))
                .map(|line| format!("only in a new one: {line}"))
                .chain(
                    shape
                        .iter()
                        .filter(|line| !fresh.contains(line))
                        .map(|line| format!("only in one of version {version}: {line}")),
                )
                .collect();
            assert!(
                differences.is_empty(),
                "schema.sql and the steps since version {version} disagree (new columns go to the end of their \
                 table):\n{}",
                differences.join("\n")
            );
            let (before, mut after) = (rows(&old, &old), rows(&migrated, &old));
            // A step may add tallies; the shape says which.
            if let Some(tallies) = after.get_mut("tally") {
                tallies.retain(|line| before["tally"].contains(line));
            }
            assert!(before.values().all(|rows| !rows.is_empty()), "{before:?}");
            assert_eq!(after, before);
            assert_eq!(lines(&migrated, "PRAGMA integrity_check"), [r#"Text("ok")"#]);
        }
    }

    #[test]
    fn a_migration_that_fails_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let connection = lay(directory.path(), FIXTURES[0].1);
        let before = (shape(&connection), rows(&connection, &connection));
        let broken = "ALTER TABLE event ADD COLUMN mood TEXT; DELETE FROM kv; UPDATE missing SET x = 1";
        let error = migrate_by(&connection, 1, &[(2, broken)]).unwrap_err();
        assert_eq!(error.to_string(), "no such table: missing");
        assert_eq!((shape(&connection), rows(&connection, &connection)), before);
        let version: i64 = connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .unwrap();
        assert_eq!(version, 1);
    }

    #[test]
    fn who_only_reads_an_older_journal_is_told_who_brings_it_up_to_date() {
        let directory = tempfile::tempdir().unwrap();
        drop(lay(directory.path(), FIXTURES[0].1));
        let error = schema::open_to_read(directory.path()).unwrap_err();
        assert!(matches!(error, OpenError::Older { found: 1, .. }), "{error}");
        let path = directory.path().display().to_string();
        insta::assert_snapshot!(
            error.to_string().replace(&path, "…"),
            @"the journal …/journal.db has schema version 1, and this Jackfield reads version 2; start `jackfield run` of this version, which brings it up to date"
        );
        drop(new(directory.path()));
        schema::open_to_read(directory.path()).unwrap();
    }
}
