//! The first bytes of a file: what it is, and for which machine.

use object::elf;

use super::Fault;

/// Whether the first bytes say: a 64-bit, little-endian library for this machine.
pub(super) fn check(bytes: &[u8]) -> Result<(), Fault> {
    let Some(ident) = bytes
        .first_chunk::<20>()
        .filter(|ident| ident.starts_with(b"\x7fELF"))
    else {
        return Err(Fault::NotElf(kind_of(bytes)));
    };
    let machine = elf::Machine(u16::from_le_bytes([ident[18], ident[19]]));
    let (class, data) = (elf::FileClass(ident[4]), elf::DataEncoding(ident[5]));
    let suffix = match (class, data) {
        (elf::ELFCLASS64, elf::ELFDATA2LSB) => "",
        (elf::ELFCLASS32, _) => " (32 bit)",
        (_, elf::ELFDATA2MSB) => " (big-endian)",
        _ => return Err(Fault::Damaged("its header is of no known kind".to_owned())),
    };
    if machine != MACHINE.0 || !suffix.is_empty() {
        return Err(Fault::Machine {
            found: format!("{}{suffix}", machine_name(machine)),
            expected: MACHINE.1,
        });
    }
    match elf::FileType(u16::from_le_bytes([ident[16], ident[17]])) {
        elf::ET_DYN => Ok(()),
        elf::ET_EXEC => Err(Fault::NotShared("a program")),
        elf::ET_REL => Err(Fault::NotShared("an object file")),
        elf::ET_CORE => Err(Fault::NotShared("a core dump")),
        _ => Err(Fault::Damaged("its header has no known type".to_owned())),
    }
}

fn machine_name(machine: elf::Machine) -> String {
    match machine {
        elf::EM_386 => "x86".to_owned(),
        elf::EM_X86_64 => "x86-64".to_owned(),
        elf::EM_ARM => "ARM".to_owned(),
        elf::EM_AARCH64 => "ARM64".to_owned(),
        elf::EM_RISCV => "RISC-V".to_owned(),
        elf::EM_PPC64 => "POWER".to_owned(),
        elf::EM_S390 => "S/390".to_owned(),
        elf::Machine(number) => format!("machine number {number}"),
    }
}

/// What a file that is no ELF file seems to be.
fn kind_of(bytes: &[u8]) -> &'static str {
    match bytes {
        [] => "empty",
        [b'M', b'Z', ..] => "a Windows program or library",
        [0xcf | 0xce, 0xfa, 0xed, 0xfe, ..] | [0xca, 0xfe, 0xba, 0xbe, ..] => "a macOS program or library",
        [0, b'a', b's', b'm', ..] => "a WebAssembly module",
        [b'!', b'<', b'a', b'r', b'c', b'h', b'>', ..] => "a static library or rlib",
        [b'#', b'!', ..] => "a script",
        [0x1f, 0x8b, ..] | [b'P', b'K', ..] => "an archive",
        _ if bytes
            .iter()
            .take(512)
            .all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) =>
        {
            "a text"
        }
        _ if bytes.starts_with(b"\x7fELF") => "only the beginning of one",
        _ => "of no known format",
    }
}

/// The machine that this process runs on.
#[cfg(target_arch = "x86_64")]
pub(super) const MACHINE: (elf::Machine, &str) = (elf::EM_X86_64, "x86-64");
#[cfg(target_arch = "aarch64")]
pub(super) const MACHINE: (elf::Machine, &str) = (elf::EM_AARCH64, "ARM64");
#[cfg(target_arch = "riscv64")]
pub(super) const MACHINE: (elf::Machine, &str) = (elf::EM_RISCV, "RISC-V");
