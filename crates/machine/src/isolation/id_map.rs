//! Rows of a user namespace's id map (user_namespaces(7)) from the ranges of subuid(5),
//! without I/O.
//!
//! newuidmap(1) writes all rows at once. The kernel refuses the whole map (`map_write()` of
//! kernel/user_namespace.c) if an id inside or outside the namespace occurs twice, if there
//! are more than `ROWS_MOST` rows, or if the text fills a page. /etc/subuid can have equal
//! or overlapping ranges if several tools wrote to it.
//!
//! Invariant: ids inside the namespace follow the order of the lines in the file. A file's
//! owner in the guest therefore stays the same if lines are only appended.

use std::cmp::Reverse;

/// Maximum number of rows in a map (`UID_GID_MAP_MAX_EXTENTS`, since Linux 4.15).
const ROWS_MOST: usize = 340;
/// Maximum length of a map's text in bytes; it has to be shorter than a page.
const TEXT_MOST: usize = 4095;
/// The number that stands for "no id" (`(uid_t) -1`, setreuid(2)); it cannot be mapped.
const NO_ID: u32 = u32::MAX;

/// A row of uid_map: `count` consecutive ids inside and outside the namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdMapRow {
    inside: u32,
    outside: u32,
    count: u32,
}

/// A range of ids: the first id, and the number of ids.
type Range = (u32, u32);

/// The ranges that `text`, a subuid(5) file, delegates to a user. A line names the user by
/// name or by number.
#[must_use]
pub fn delegated(text: &str, name: &str, uid: u32) -> Vec<Range> {
    let uid = uid.to_string();
    let lines = text.lines().filter_map(fields);
    let theirs = lines.filter(|(owner, ..)| *owner == name || *owner == uid);
    theirs.map(|(_, first, count)| (first, count)).collect()
}

/// Owner, first id and count in a line of subuid(5); `None` if the line is malformed.
#[must_use]
pub fn fields(line: &str) -> Option<(&str, u32, u32)> {
    let mut fields = line.trim().split(':');
    let (owner, first, count) = (fields.next()?, fields.next()?, fields.next()?);
    let (first, count) = (first.parse::<u32>().ok()?, count.parse().ok()?);
    first.checked_add(count).filter(|_| count > 0 && fields.next().is_none())?;
    Some((owner, first, count))
}

/// Rows of a map: the user's `own` id becomes root, then the delegated ids follow, each once.
/// If they do not fit into a map, the smallest ranges are left out.
#[must_use]
pub fn rows(own: u32, delegated: &[Range]) -> Vec<IdMapRow> {
    let ranges = joined(&distinct(own, delegated));
    if let Some(rows) = numbered(own, &ranges) {
        return rows;
    }
    // Adjacent ranges can be joined once they are sorted.
    let mut sorted = ranges;
    sorted.sort_unstable();
    let mut ranges = joined(&sorted);
    // Drop the smallest range until the map fits.
    ranges.sort_by_key(|(first, count)| (Reverse(*count), *first));
    loop {
        let mut kept = ranges.clone();
        kept.sort_unstable();
        match numbered(own, &kept) {
            Some(rows) => return rows,
            None => ranges.truncate(ranges.len().saturating_sub(1).min(ROWS_MOST - 1)),
        }
    }
}

/// A warning if some of the delegated ids are missing in `rows`.
#[must_use]
pub fn left_out(own: u32, delegated: &[Range], rows: &[IdMapRow]) -> Option<String> {
    let all: u64 = distinct(own, delegated).iter().map(|(_, count)| u64::from(*count)).sum();
    // The first row is the user's own id.
    let mapped: u64 = rows.iter().skip(1).map(|row| u64::from(row.count)).sum();
    (mapped < all).then(|| {
        format!(
            "only {mapped} of {all} subordinate ids are mapped: a map has at most {ROWS_MOST} \
             rows and {TEXT_MOST} bytes; join the ranges"
        )
    })
}

/// `delegated` without the user's own id and without ids that an earlier range has.
fn distinct(own: u32, delegated: &[Range]) -> Vec<Range> {
    let mut taken = vec![(own, 1), (NO_ID, 1)];
    let mut distinct = Vec::new();
    for &range in delegated {
        let mut parts = vec![range];
        for &(first, count) in &taken {
            parts = parts.into_iter().flat_map(|part| without(part, first, count)).collect();
        }
        taken.extend(&parts);
        distinct.extend(parts);
    }
    distinct
}

/// A range without the `count` ids from `first` on: the part before them and the part after
/// them.
fn without((start, length): Range, first: u32, count: u32) -> impl Iterator<Item = Range> {
    let (start, first) = (u64::from(start), u64::from(first));
    let (end, last) = (start + u64::from(length), first + u64::from(count));
    let parts = [(start, end.min(first)), (start.max(last), end)];
    parts
        .into_iter()
        .filter(|(from, to)| from < to)
        .filter_map(|(from, to)| Some((u32::try_from(from).ok()?, u32::try_from(to - from).ok()?)))
}

/// `ranges` in the same order; neighbours that continue each other become one range.
fn joined(ranges: &[Range]) -> Vec<Range> {
    let mut joined: Vec<Range> = Vec::new();
    for &(first, count) in ranges {
        match joined.last_mut() {
            Some((before, length)) if before.checked_add(*length) == Some(first) => {
                *length += count;
            }
            _ => joined.push((first, count)),
        }
    }
    joined
}

/// A map of the user's own id and `ranges`; `None` if the kernel would refuse it.
fn numbered(own: u32, ranges: &[Range]) -> Option<Vec<IdMapRow>> {
    let mut rows = vec![IdMapRow { inside: 0, outside: own, count: 1 }];
    let mut inside = 1_u32;
    for &(outside, count) in ranges {
        // An id inside has 32 bits; all ranges together may exceed that.
        let count = count.min(NO_ID - inside);
        if count == 0 {
            break;
        }
        rows.push(IdMapRow { inside, outside, count });
        inside += count;
    }
    // A blank or the end of the line follows each number.
    let text: usize = arguments(&rows).iter().map(|number| number.len() + 1).sum();
    (rows.len() <= ROWS_MOST && text <= TEXT_MOST).then_some(rows)
}

/// Arguments of newuidmap(1) after the process id.
#[must_use]
pub fn arguments(rows: &[IdMapRow]) -> Vec<String> {
    let numbers = rows.iter().flat_map(|row| [row.inside, row.outside, row.count]);
    numbers.map(|number| number.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn delegations_name_the_user_or_its_number() {
        let text = "# comment\nann:100000:65536\nbob:165536:65536\n1000:300000:10\nann : 1:1\n\
                    ann:x:5\nann:5\nann:500000:0\nann:4294967295:5\nann:1:2:3\n\nann:400000:20\n";
        for (name, uid, expected) in [
            ("ann", 1000, &[(100_000, 65_536), (300_000, 10), (400_000, 20)][..]),
            ("bob", 1001, &[(165_536, 65_536)]),
            ("bo", 100, &[]),
        ] {
            assert_eq!(delegated(text, name, uid), expected, "{name}");
        }
    }

    #[test]
    fn delegated_ids_follow_the_users_own_id_and_occur_once() {
        #[rustfmt::skip]
        let cases = [
            ("none",             &[][..], "0 1000 1"),
            ("one",              &[(100_000, 65_536)], "0 1000 1 1 100000 65536"),
            ("two",              &[(500, 10), (100_000, 7)], "0 1000 1 1 500 10 11 100000 7"),
            ("in the file's order", &[(100_000, 7), (500, 10)], "0 1000 1 1 100000 7 8 500 10"),
            ("twice",            &[(500, 10), (500, 10)], "0 1000 1 1 500 10"),
            ("overlapping",      &[(500, 10), (505, 10)], "0 1000 1 1 500 15"),
            ("overlapping below", &[(505, 10), (500, 10)], "0 1000 1 1 505 10 11 500 5"),
            ("within another",   &[(500, 10), (502, 3)], "0 1000 1 1 500 10"),
            ("around another",   &[(502, 3), (500, 10)], "0 1000 1 1 502 3 4 500 2 6 505 5"),
            ("side by side",     &[(500, 10), (510, 5)], "0 1000 1 1 500 15"),
            ("around the own",   &[(995, 10)], "0 1000 1 1 995 5 6 1001 4"),
            ("the own alone",    &[(1000, 1)], "0 1000 1"),
            ("no id",            &[(NO_ID - 1, 1)], "0 1000 1 1 4294967294 1"),
            ("all ids",          &[(0, NO_ID)], "0 1000 1 1 0 1000 1001 1001 4294966294"),
        ];
        for (name, delegated, expected) in cases {
            let rows = rows(1000, delegated);
            assert_eq!(arguments(&rows).join(" "), expected, "{name}");
            assert_eq!(left_out(1000, delegated, &rows), None, "{name}");
        }
    }

    /// Ranges of `count` ids each, with a gap behind each.
    fn scattered(number: u32, count: u32) -> Vec<Range> {
        (0..number).map(|index| (100_000 + index * (count + 1), count)).collect()
    }

    #[test]
    fn a_map_that_is_too_long_is_cut_with_a_warning() {
        let adjacent: Vec<_> = (0..1000).rev().map(|index| (100_000 + index * 10, 10)).collect();
        let by_number = rows(1000, &adjacent);
        assert_eq!(arguments(&by_number).join(" "), "0 1000 1 1 100000 10000");
        assert_eq!(left_out(1000, &adjacent, &by_number), None);

        let mut many = scattered(2000, 1);
        many.push((500_000, 65_536));
        let cut = rows(1000, &many);
        assert!(cut.len() < ROWS_MOST && cut.len() > 150, "{}", cut.len());
        assert!(arguments(&cut).join(" ").contains(" 500000 65536"), "the largest stays");
        let words = left_out(1000, &many, &cut).unwrap();
        assert!(words.contains("of 67536 subordinate ids"), "{words}");
    }

    proptest! {
        /// The kernel accepts the map of any file.
        #[test]
        fn no_id_occurs_twice(
            own in 0..200_u32,
            delegated in prop::collection::vec((0..200_u32, 1..40_u32), 0..60),
        ) {
            let rows = rows(own, &delegated);
            let mut outside: Vec<_> =
                rows.iter().flat_map(|row| row.outside..row.outside + row.count).collect();
            let count = outside.len();
            outside.sort_unstable();
            outside.dedup();
            prop_assert_eq!(outside.len(), count);
            let wanted = |id: &u32| delegated.iter().any(|(first, n)| (*first..first + n).contains(id));
            prop_assert!(outside.iter().all(|id| *id == own || wanted(id)));
            prop_assert_eq!(count, 1 + (0..300).filter(|id| *id != own && wanted(id)).count());
            let mut next = 0;
            for row in rows {
                prop_assert_eq!(row.inside, next);
                next += row.count;
            }
        }
    }
}
