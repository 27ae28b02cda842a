//! The tables of a library: its segments, note, symbols, and what it asks of the loader.

use object::{
    LittleEndian, elf,
    read::elf::{ElfFile64, NoteIterator, ProgramHeader as _, Sym as _},
};

use super::{Fault, Glibc};

/// A library for this machine.
pub(super) type File<'data> = ElfFile64<'data, LittleEndian>;

/// What there is to read of a file's tables: as much as it is long. Otherwise all entries of a table could have one name, long
/// as a file, and an entry be its own successor.
struct Budget(usize);

impl Budget {
    fn of(file: &File<'_>) -> Self {
        Self(file.data().len())
    }

    fn spend(&mut self, bytes: usize) -> Result<(), Fault> {
        let left = self.0.checked_sub(bytes);
        self.0 = left.ok_or_else(|| Fault::Damaged("its tables lead to more than there is".to_owned()))?;
        Ok(())
    }
}

/// Whether all that the loader would map is in the file, and may be mapped.
pub(super) fn segments(file: &File<'_>) -> Result<(), Fault> {
    let endian = file.endian();
    if file.elf_program_headers().is_empty() || file.elf_section_table().is_empty() {
        return Err(Fault::Damaged(
            "it has no tables of segments and sections".to_owned(),
        ));
    }
    let mut stack = None;
    for segment in file.elf_program_headers() {
        let kind = segment.p_type(endian);
        if kind == elf::PT_LOAD || kind == elf::PT_DYNAMIC || kind == elf::PT_NOTE {
            segment
                .data(endian, file.data())
                .map_err(|()| Fault::Damaged("it ends before its last segment".to_owned()))?;
        }
        if kind == elf::PT_GNU_STACK {
            stack = Some(segment.p_flags(endian));
        }
    }
    // Where nothing is said, the loader takes it that the stack must be executable.
    match stack {
        Some(flags) if !flags.contains(elf::PF_X) => Ok(()),
        Some(_) | None => Err(Fault::ExecutableStack),
    }
}

/// How many bytes of its own the library has in each thread, with what alignment may cost.
pub(super) fn thread_local(file: &File<'_>) -> u64 {
    let endian = file.endian();
    let segments = file.elf_program_headers().iter();
    let storage = segments.filter(|segment| segment.p_type(endian) == elf::PT_TLS);
    storage.fold(0, |sum, segment| {
        let size = segment.p_memsz(endian).saturating_add(segment.p_align(endian));
        size.saturating_add(sum)
    })
}

/// The description in our note, where there is one.
pub(super) fn note<'data>(file: &File<'data>) -> Result<Option<&'data [u8]>, Fault> {
    let (endian, mut budget) = (file.endian(), Budget::of(file));
    for segment in file.elf_program_headers() {
        let Some(notes) = segment.notes(endian, file.data()).map_err(damaged)? else {
            continue;
        };
        budget.spend(usize::try_from(segment.p_filesz(endian)).unwrap_or(usize::MAX))?;
        if let Some(found) = ours(notes, endian)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn ours<'data>(
    mut notes: NoteIterator<'data, elf::FileHeader64<LittleEndian>>,
    endian: LittleEndian,
) -> Result<Option<&'data [u8]>, Fault> {
    while let Some(note) = notes.next().map_err(damaged)? {
        if note.name() == jackfield_abi::NOTE_OWNER.as_bytes()
            && note.n_type(endian).0 == jackfield_abi::NOTE_TYPE
        {
            return Ok(Some(note.desc()));
        }
    }
    Ok(None)
}

/// The names that the library gives to others.
pub(super) fn exported<'data>(file: &File<'data>) -> Result<Vec<&'data [u8]>, Fault> {
    let (endian, mut budget) = (file.endian(), Budget::of(file));
    let table = file.elf_dynamic_symbol_table();
    let visible = table.iter().filter(|symbol| {
        symbol.st_bind() != elf::STB_LOCAL
            && !symbol.is_undefined(endian)
            && matches!(symbol.st_visibility(), elf::STV_DEFAULT | elf::STV_PROTECTED)
    });
    visible
        .map(|symbol| {
            let name = symbol.name(endian, table.strings()).map_err(damaged)?;
            budget.spend(name.len())?;
            Ok(name)
        })
        .collect()
}

/// The highest version of glibc whose symbols the library uses.
pub(super) fn glibc_needed(file: &File<'_>) -> Result<Option<Glibc>, Fault> {
    let (endian, sections) = (file.endian(), file.elf_section_table());
    let Some((mut files, link)) = sections.gnu_verneed(endian, file.data()).map_err(damaged)? else {
        return Ok(None);
    };
    let strings = sections.strings(endian, file.data(), link).map_err(damaged)?;
    let (mut highest, mut budget) = (None, Budget::of(file));
    while let Some((_, mut versions)) = files.next().map_err(damaged)? {
        while let Some(version) = versions.next().map_err(damaged)? {
            let name = version.name(endian, strings).map_err(damaged)?;
            budget.spend(size_of_val(version) + name.len())?;
            let number = std::str::from_utf8(name)
                .ok()
                .and_then(|name| name.strip_prefix("GLIBC_"));
            highest = highest.max(number.and_then(Glibc::parse));
        }
    }
    Ok(highest)
}

/// What the dynamic loader is told to do.
#[derive(Debug, Default)]
pub(super) struct Dynamic {
    pub(super) needed: Vec<String>,
    pub(super) search_path: Option<String>,
    pub(super) text_relocations: bool,
    pub(super) static_tls: bool,
}

impl Dynamic {
    pub(super) fn read(file: &File<'_>) -> Result<Self, Fault> {
        let table = file.elf_dynamic_table().map_err(damaged)?;
        let (mut found, mut budget) = (Self::default(), Budget::of(file));
        for entry in table.iter() {
            let mut text = || {
                let text = table.string(entry).map_err(damaged)?;
                budget.spend(text.len())?;
                Ok::<_, Fault>(String::from_utf8_lossy(text).into_owned())
            };
            match entry.tag {
                elf::DT_NEEDED => found.needed.push(text()?),
                elf::DT_RPATH | elf::DT_RUNPATH => found.search_path = Some(text()?),
                elf::DT_TEXTREL => found.text_relocations = true,
                elf::DT_FLAGS => {
                    let flags = elf::DynamicFlags(entry.val);
                    found.text_relocations |= flags.contains(elf::DF_TEXTREL);
                    found.static_tls |= flags.contains(elf::DF_STATIC_TLS);
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// The libraries that it needs and that few need.
    pub(super) fn unexpected(&self) -> impl Iterator<Item = &str> {
        let stem = |library: &str| library.split(".so").next().unwrap_or_default().to_owned();
        let known = move |library: &&str| {
            let stem = stem(library);
            SYSTEM_LIBRARIES
                .iter()
                .any(|known| stem == *known || (*known == "ld-linux" && stem.starts_with(known)))
        };
        self.needed
            .iter()
            .map(String::as_str)
            .filter(move |library| !known(library))
    }
}

pub(super) fn damaged(error: object::read::Error) -> Fault {
    Fault::Damaged(error.to_string())
}

/// What a plugin is expected to be linked with; anything else is worth a warning.
const SYSTEM_LIBRARIES: &[&str] = &[
    "libc",
    "libm",
    "libgcc_s",
    "libpthread",
    "libdl",
    "librt",
    "libstdc++",
    "ld-linux",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// A library that needs one of a name so long, so many times.
    fn needing(length: usize, times: usize) -> Vec<u8> {
        let words = |words: &[usize]| {
            words
                .iter()
                .flat_map(|word| word.to_le_bytes())
                .collect::<Vec<_>>()
        };
        let table = words(&[[1, 1].repeat(times), vec![0, 0]].concat());
        let strings = [&[0], &vec![b'a'; length][..], &[0]].concat();
        let (header, sections) = (64, 3 * 64);
        let at = [header + sections, header + sections + table.len()];
        let machine = crate::plugin::elf::header::MACHINE.0.0;
        let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
        bytes.resize(header, 0);
        for (at, number) in [
            (16, 3),
            (18, machine),
            (40, 64),
            (52, 64),
            (58, 64),
            (60, 3),
            (62, 1),
        ] {
            bytes[at..at + 2].copy_from_slice(&number.to_le_bytes());
        }
        let (strtab, dynamic) = (3 << 32, 6 << 32);
        bytes.extend(words(&[0; 8]));
        bytes.extend(words(&[strtab, 0, 0, at[1], strings.len(), 0, 1, 0]));
        bytes.extend(words(&[dynamic, 0, 0, at[0], table.len(), 1, 8, 16]));
        bytes.extend([table, strings].concat());
        bytes
    }

    #[test]
    fn a_table_that_leads_to_more_than_the_file_has_is_damage() {
        let read = |bytes: &[u8]| Dynamic::read(&File::parse(bytes).unwrap());
        assert_eq!(read(&needing(1000, 1)).unwrap().needed, ["a".repeat(1000)]);
        let fault = read(&needing(100_000, 1000)).unwrap_err();
        assert!(
            matches!(&fault, Fault::Damaged(words) if words == "its tables lead to more than there is"),
            "{fault}"
        );
    }
}
