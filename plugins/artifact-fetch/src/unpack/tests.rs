use std::{
    io::Cursor,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use cap_std::ambient_authority;
use tempfile::TempDir;
use zip::{ZipWriter, write::SimpleFileOptions};

use super::*;

const LIMITS: Limits = Limits {
    entries: 100,
    bytes: 64 << 20,
    ratio: 200,
};

/// An entry, written as it stands here and not as a zip library would have it.
#[derive(Clone)]
struct Entry {
    name: Vec<u8>,
    /// The name in the local header, where it differs from the one in the directory.
    local_name: Option<Vec<u8>>,
    method: u16,
    flags: u16,
    mode: u32,
    data: Vec<u8>,
    /// The size that the headers claim.
    size: u32,
    crc: u32,
}

fn entry(name: impl AsRef<[u8]>, data: &[u8]) -> Entry {
    Entry {
        name: name.as_ref().to_vec(),
        local_name: None,
        method: 0,
        flags: 0x0800,
        mode: 0o100_644,
        data: data.to_vec(),
        size: u32::try_from(data.len()).unwrap(),
        crc: crc32(data),
    }
}

fn archive(entries: &[Entry]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    let short = |number: usize| u16::try_from(number).unwrap().to_le_bytes();
    let long = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
    for entry in entries {
        let local_name = entry.local_name.as_ref().unwrap_or(&entry.name);
        let offset = bytes.len();
        let common = |name: &[u8]| {
            [
                20u16.to_le_bytes().as_slice(),
                &entry.flags.to_le_bytes(),
                &entry.method.to_le_bytes(),
                &[0, 0, 0x21, 0],
                &entry.crc.to_le_bytes(),
                &long(entry.data.len()),
                &entry.size.to_le_bytes(),
                &short(name.len()),
                &short(0),
            ]
            .concat()
        };
        bytes.extend(
            [
                b"PK\x03\x04".as_slice(),
                &common(local_name),
                local_name,
                &entry.data,
            ]
            .concat(),
        );
        let attributes = (entry.mode << 16).to_le_bytes();
        let tail = [[0; 6].as_slice(), &attributes, &long(offset), &entry.name].concat();
        directory.extend([b"PK\x01\x02".as_slice(), &[20, 3], &common(&entry.name), &tail].concat());
    }
    let (offset, count) = (bytes.len(), short(entries.len()));
    let end = [
        b"PK\x05\x06".as_slice(),
        &[0; 4],
        &count,
        &count,
        &long(directory.len()),
        &long(offset),
        &[0; 2],
    ];
    [bytes, directory, end.concat()].concat()
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| {
        if crc & 1 == 1 {
            (crc >> 1) ^ 0xedb8_8320
        } else {
            crc >> 1
        }
    };
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc))
    })
}

/// An archive as a well-meaning program writes it.
fn deflated(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, data) in files {
        zip.start_file(*name, SimpleFileOptions::default().unix_permissions(0o644))
            .unwrap();
        zip.write_all(data).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A directory to unpack into, with another around it that must stay as it is.
struct Place {
    around: TempDir,
    inside: Dir,
}

impl Place {
    fn new() -> Self {
        let around = TempDir::new().unwrap();
        std::fs::create_dir(around.path().join("inside")).unwrap();
        let inside = Dir::open_ambient_dir(around.path().join("inside"), ambient_authority()).unwrap();
        Self { around, inside }
    }

    fn unpack(&self, bytes: &[u8], limits: &Limits) -> Result<Unpacked, UnpackError> {
        let path = self.around.path().join("archive");
        std::fs::write(&path, bytes).unwrap();
        unpack(
            File::open(path).unwrap(),
            &self.inside,
            "files",
            limits,
            &AtomicBool::new(false),
        )
    }

    fn path(&self, name: &str) -> PathBuf {
        self.around.path().join("inside/files").join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// Nothing but the archive and the directory is there, and the directory has no result in it.
    #[track_caller]
    fn assert_untouched(&self) {
        assert_eq!(listed(self.around.path()), ["archive", "inside"]);
        assert!(!self.path("").exists());
    }
}

fn listed(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[track_caller]
fn refused(bytes: &[u8], limits: &Limits, expected: &str) {
    let place = Place::new();
    let error = place.unpack(bytes, limits).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}\nshould contain\n{expected}");
    place.assert_untouched();
}

#[test]
fn an_archive_becomes_its_files() {
    let place = Place::new();
    let bytes = deflated(&[
        ("tokens.json", b"{}"),
        ("css/deep/colors.css", b":root {}"),
        ("empty", b""),
    ]);
    let unpacked = place.unpack(&bytes, &LIMITS).unwrap();
    let files = ["tokens.json", "css/deep/colors.css", "empty"]
        .map(str::to_owned)
        .to_vec();
    assert_eq!(unpacked, Unpacked { files, bytes: 10 });
    assert_eq!(place.read("css/deep/colors.css"), b":root {}");
    assert_eq!(place.read("empty"), b"");
    assert_eq!(listed(&place.around.path().join("inside")), ["files"]);
}

#[test]
fn directories_and_stored_files_are_unpacked() {
    let place = Place::new();
    let mut directory = entry("fonts/", b"");
    directory.mode = 0o040_755;
    let unpacked = place
        .unpack(&archive(&[directory, entry("fonts/a.woff", b"woff")]), &LIMITS)
        .unwrap();
    assert_eq!(unpacked.files, ["fonts/a.woff"]);
    assert_eq!(place.read("fonts/a.woff"), b"woff");
}

#[test]
fn an_archive_without_entries_is_an_empty_directory() {
    let place = Place::new();
    assert_eq!(place.unpack(&archive(&[]), &LIMITS).unwrap(), Unpacked::default());
    assert!(listed(&place.path("")).is_empty());
}

#[test]
fn a_half_unpacked_directory_is_replaced() {
    let place = Place::new();
    for stale in ["files", "files.part"] {
        place.inside.create_dir_all(format!("{stale}/old")).unwrap();
        place.inside.write(format!("{stale}/old/file"), "stale").unwrap();
    }
    place.unpack(&archive(&[entry("new", b"new")]), &LIMITS).unwrap();
    assert_eq!(listed(&place.path("")), ["new"]);
    assert_eq!(listed(&place.around.path().join("inside")), ["files"]);
}

#[test]
fn of_a_mode_only_the_right_to_execute_is_kept() {
    let place = Place::new();
    let with = |name: &str, mode| Entry {
        mode,
        ..entry(name, b"x")
    };
    let bytes = archive(&[
        with("suid", 0o104_777),
        with("plain", 0o100_666),
        with("sticky", 0o103_600),
        with("dos", 0),
    ]);
    place.unpack(&bytes, &LIMITS).unwrap();
    for (name, executable) in [
        ("suid", true),
        ("plain", false),
        ("sticky", false),
        ("dos", false),
    ] {
        let mode = std::fs::metadata(place.path(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7022, 0, "{name}: {mode:o}");
        assert_eq!(mode & 0o100 != 0, executable, "{name}: {mode:o}");
    }
}

#[test]
fn hostile_names_leave_nothing_behind() {
    for (name, expected) in [
        ("../evil", "`../evil` is refused: it has the component `..`"),
        ("a/../../evil", "the component `..`"),
        ("/tmp/evil", "it is absolute"),
        ("C:\\evil", "it holds a"),
        ("..\\evil", "it holds a backslash"),
        ("a\0.txt", "`a\\0.txt` is refused: it holds a NUL"),
        ("a\nb", "`a\\nb` is refused: it holds a control character"),
        ("", "the name is empty"),
    ] {
        refused(
            &archive(&[entry("good", b"x"), entry(name, b"x")]),
            &LIMITS,
            expected,
        );
    }
    refused(
        &archive(&[entry("a", b"1"), entry("a", b"2")]),
        &LIMITS,
        "the same name",
    );
    refused(
        &archive(&[entry("A", b"1"), entry("a", b"2")]),
        &LIMITS,
        "differs from `A` only by case",
    );
    refused(
        &archive(&[entry("a", b"1"), entry("a/b", b"2")]),
        &LIMITS,
        "`a` is both a file and a directory",
    );
    let long = "n".repeat(300);
    refused(
        &archive(&[entry(&long, b"x")]),
        &LIMITS,
        &format!("`{}…` is refused: it is too long", "n".repeat(100)),
    );
}

#[test]
fn only_files_and_directories_are_unpacked() {
    for (mode, name, expected) in [
        (0o120_777, "link", "it is a symbolic link"),
        (0o120_777, "link/", "it is a symbolic link"),
        (0o020_666, "tty", "it is a device"),
        (0o060_666, "sda", "it is a device"),
        (0o010_666, "pipe", "it is a pipe"),
        (0o140_666, "socket", "it is a socket"),
        (0o040_755, "file", "a directory by the other"),
        (0o100_644, "directory/", "a directory by the other"),
        (0o040_755, "directory/", "a directory with content"),
    ] {
        refused(
            &archive(&[Entry {
                mode,
                ..entry(name, b"/etc/passwd")
            }]),
            &LIMITS,
            expected,
        );
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    let with = |method, flags| {
        archive(&[Entry {
            method,
            flags,
            ..entry("a", b"x")
        }])
    };
    refused(&with(0, 0x0801), &LIMITS, "`a` is encrypted");
    refused(&with(99, 0x0801), &LIMITS, "`a` is encrypted");
    for method in [1, 9, 12, 14, 77, 93, 95] {
        refused(
            &with(method, 0x0800),
            &LIMITS,
            &format!("is compressed by Unsupported({method}); only Deflated"),
        );
    }
}

#[test]
fn what_is_no_zip_archive_is_named_by_its_beginning() {
    for (bytes, expected) in [
        (
            b"".as_slice(),
            "not a zip archive: it begins with nothing: the file is empty",
        ),
        (b"<!doctype html>", "it begins with `<`, as a web page does"),
        (b"\x1f\x8b\x08\0", "the mark of gzip"),
        (b"{\"a\": 1}", "`{\\\"a\\\"`"),
        (b"\x7fELF", "`\\x7fELF`"),
    ] {
        refused(bytes, &LIMITS, expected);
    }
}

#[test]
fn damaged_archives_are_refused() {
    let good = archive(&[entry("a", b"hello")]);
    for cut in [5, 30, 34, good.len() - 22, good.len() - 1] {
        refused(&good[..cut], &LIMITS, "the archive is damaged");
    }
    let wrong = |change: fn(&mut Entry)| {
        let mut entry = entry("a", b"hello");
        change(&mut entry);
        archive(&[entry])
    };
    refused(&wrong(|it| it.crc ^= 1), &LIMITS, "the archive is damaged");
    refused(&wrong(|it| it.method = 8), &LIMITS, "the archive is damaged");
    refused(
        &wrong(|it| it.local_name = Some(b"b".to_vec())),
        &LIMITS,
        "the archive is damaged",
    );
}

#[test]
fn any_byte_of_an_archive_may_be_wrong_without_a_panic_or_an_escape() {
    let good = deflated(&[
        ("css/colors.css", b":root { --a: 1 }"),
        ("b", b"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"),
    ]);
    let place = Place::new();
    for index in 0..good.len() {
        let mut bytes = good.clone();
        bytes[index] = if index % 2 == 0 { b'/' } else { !bytes[index] };
        // Whether it is refused depends on the byte.
        let _ = place.unpack(&bytes, &LIMITS);
        assert_eq!(listed(place.around.path()), ["archive", "inside"]);
    }
}

#[test]
fn limits_count_what_is_written_and_not_what_is_announced() {
    let zeros = vec![0; 20 << 20];
    let bomb = deflated(&[("zeros", &zeros)]);
    assert!(bomb.len() < 64 << 10);
    refused(
        &bomb,
        &Limits { ratio: 10, ..LIMITS },
        "more than 10 times its size",
    );
    refused(
        &bomb,
        &Limits {
            bytes: 1 << 20,
            ..LIMITS
        },
        "more than the 1048576 bytes allowed",
    );

    // The announced size is 1: the crate stops there, or we do; a bomb it is not.
    let mut modest = bomb.clone();
    let size = (20u32 << 20).to_le_bytes();
    for at in 0..modest.len() - 4 {
        if modest[at..at + 4] == size {
            modest[at..at + 4].copy_from_slice(&1u32.to_le_bytes());
        }
    }
    let place = Place::new();
    place
        .unpack(
            &modest,
            &Limits {
                bytes: 1 << 20,
                ..LIMITS
            },
        )
        .unwrap_err();
    place.assert_untouched();
}

#[test]
fn limits_hold_for_all_files_together() {
    let half = vec![0; 600 << 10];
    let bytes = deflated(&[("a", &half), ("b", &half)]);
    refused(
        &bytes,
        &Limits {
            bytes: 1 << 20,
            ..LIMITS
        },
        "more than the 1048576 bytes allowed",
    );
    assert_eq!(
        Place::new()
            .unpack(
                &bytes,
                &Limits {
                    bytes: 1200 << 10,
                    ..LIMITS
                }
            )
            .unwrap()
            .bytes,
        1200 << 10
    );
}

#[test]
fn entries_that_overlap_gain_nothing() {
    // A hundred directory entries for one and the same megabyte.
    let one = entry("0", &vec![b'x'; 1 << 20]);
    let single = archive(std::slice::from_ref(&one));
    let start = 30 + 1 + one.data.len();
    let record = &single[start..single.len() - 22];
    let mut bytes = single[..start].to_vec();
    for _ in 0..100 {
        bytes.extend_from_slice(record);
    }
    let count = 100u16.to_le_bytes();
    let size = u32::try_from(100 * record.len()).unwrap().to_le_bytes();
    let offset = u32::try_from(start).unwrap().to_le_bytes();
    bytes.extend(
        [
            b"PK\x05\x06".as_slice(),
            &[0; 4],
            &count,
            &count,
            &size,
            &offset,
            &[0; 2],
        ]
        .concat(),
    );
    refused(&bytes, &LIMITS, "same name");
}

#[test]
fn entries_are_counted_before_they_are_kept() {
    let entries: Vec<_> = (0..101).map(|number| entry(format!("f{number}"), b"")).collect();
    refused(&archive(&entries), &LIMITS, "more than the 100 entries allowed");
    let many: Vec<_> = (0..40_000)
        .map(|number| entry(format!("file-with-some-name-{number}"), b""))
        .collect();
    refused(&archive(&many), &LIMITS, "more than the 100 entries allowed");
}

#[test]
fn directories_that_names_only_pass_through_count_as_well() {
    let deep = |number: usize| entry(format!("{number}/{}file", "d/".repeat(49)), b"");
    assert_eq!(
        Place::new()
            .unpack(&archive(&[deep(1)]), &LIMITS)
            .unwrap()
            .files
            .len(),
        1
    );
    refused(
        &archive(&[deep(1), deep(2)]),
        &LIMITS,
        "more than the 100 entries allowed",
    );
}

#[test]
fn unpacking_stops_with_its_call() {
    let place = Place::new();
    let path = place.around.path().join("archive");
    std::fs::write(&path, archive(&[entry("a", b"x")])).unwrap();
    let stop = AtomicBool::new(true);
    let error = unpack(File::open(path).unwrap(), &place.inside, "files", &LIMITS, &stop).unwrap_err();
    assert!(matches!(error, UnpackError::Stopped), "{error}");
    place.assert_untouched();
}

#[test]
fn archives_of_other_programs_are_read() {
    // By Python's zipfile on a stream: sizes and checksum follow the data, and the local header has zeros.
    let streamed = include_bytes!("../../tests/streamed.zip");
    let place = Place::new();
    assert_eq!(
        place.unpack(streamed, &LIMITS).unwrap().files,
        ["tokens/color.json", "Größe.txt"]
    );
    assert_eq!(place.read("Größe.txt"), "ä\n".as_bytes());
}
