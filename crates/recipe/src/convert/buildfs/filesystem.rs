//! `[filesystem]` of buildfs → `[[output]]`.

use crate::convert::source::{Table, Value};
use crate::model::{Mistake, Output};

/// Who makes a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Maker {
    /// We do; the options of mkfs(8) mean nothing.
    Builtin,
    /// As `Builtin`, and the file is as large as its contents.
    BuiltinFitting,
    /// mkfs(8).
    Mkfs,
}

/// Names in build.toml, the format, and who makes it.
const TYPES: &[(&str, &str, Maker)] = &[
    ("Ext4", "ext4", Maker::Builtin),
    ("Btrfs", "btrfs", Maker::Mkfs),
    ("Squashfs", "squashfs", Maker::BuiltinFitting),
    ("Vfat", "vfat", Maker::Mkfs),
    ("Xfs", "xfs", Maker::Mkfs),
];

/// Keys without counterpart.
const WITHOUT: &[(&str, &str)] = &[
    ("block_size_mib", "dd is not used: the file is written directly"),
    ("dd_args", "dd is not used: the file is written directly"),
];

/// Converts the table.
///
/// # Errors
/// A value has the wrong form.
pub(super) fn convert(mut table: Table<'_>) -> Result<Output, Mistake> {
    let kind = table.take("type");
    let name = kind.as_ref().map_or(Ok("Ext4"), Value::text)?;
    let Some((_, format, maker)) = TYPES.iter().find(|(known, ..)| *known == name) else {
        let names: Vec<_> = TYPES.iter().map(|(name, ..)| *name).collect();
        let message = format!("must be one of {}", names.join(", "));
        return Err(kind.map_or_else(|| table.mistake(&message), |kind| kind.mistake(&message)));
    };
    let mut output = Output {
        file: format!("root.{format}").into(),
        format: Some((*format).to_owned()),
        ..Output::default()
    };
    let size = table.require("size_mib")?;
    let bytes = u64::from(size.number(1..=u32::MAX)?) << 20;
    match maker {
        Maker::BuiltinFitting => size.note("squashfs is as large as its contents"),
        Maker::Builtin | Maker::Mkfs => output.size = Some(bytes),
    }
    if let Some(arguments) = table.take("mkfs_args") {
        let words: Result<Vec<_>, _> = arguments.list()?.iter().map(Value::text).collect();
        let words = words?;
        match maker {
            Maker::Mkfs => output.mkfs_args = words.into_iter().map(str::to_owned).collect(),
            Maker::Builtin | Maker::BuiltinFitting if words.is_empty() => {}
            Maker::Builtin | Maker::BuiltinFitting => arguments.note(&format!(
                "mkfs is not used for {format}: label, uuid, compress and slack are keys of [[output]]"
            )),
        }
    }
    table.note_all(WITHOUT);
    table.finish();
    Ok(output)
}
