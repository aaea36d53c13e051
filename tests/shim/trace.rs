//! What the shim wrote down of the program's calls. `shim.c` has the same numbers.

use std::rc::Rc;

/// One change, or a step of a sync.
#[derive(Clone, Debug)]
pub enum Event {
    CreateFile {
        inode: u64,
        path: String,
    },
    CreateFolder {
        inode: u64,
        path: String,
    },
    Link {
        from: String,
        to: String,
    },
    Rename {
        from: String,
        to: String,
    },
    Remove {
        path: String,
    },
    Write {
        inode: u64,
        offset: u64,
        bytes: Rc<[u8]>,
    },
    SetLength {
        inode: u64,
        length: u64,
    },
    /// What was written until now is on its way. Inode 0 is the whole file system.
    SyncBegins {
        inode: u64,
        ticket: u64,
    },
    SyncEnds {
        inode: u64,
        ticket: u64,
    },
    SyncFails {
        inode: u64,
        ticket: u64,
    },
    /// A call failed as it was told to.
    Fault {
        on: u32,
        error: i32,
        path: String,
    },
    /// A call that the shim does not know, and that it did not carry out.
    Unknown {
        number: u64,
        path: String,
    },
}

/// The events of a trace, each with the length of the trace up to its end. What is cut at the end,
/// since the program was killed, does not count.
pub fn events(trace: &[u8]) -> Vec<(u64, Event)> {
    const HEAD: usize = 24;
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(head) = trace.get(at..at + HEAD) {
        let half = |from: usize| u32::from_ne_bytes(head[from..from + 4].try_into().unwrap());
        let word = |from: usize| u64::from_ne_bytes(head[from..from + 8].try_into().unwrap());
        let end = at + HEAD + usize::try_from(half(0)).unwrap();
        let Some(rest) = trace.get(at + HEAD..end) else { break };
        at = end;
        found.push((u64::try_from(at).unwrap(), event(half(4), (word(8), word(16)), rest)));
    }
    found
}

fn event(kind: u32, (a, b): (u64, u64), rest: &[u8]) -> Event {
    let path = || String::from_utf8(rest.to_vec()).unwrap();
    let paths = || {
        let both = path();
        let (from, to) = both.split_once('\0').unwrap();
        (from.to_owned(), to.to_owned())
    };
    let (inode, ticket) = (a, b);
    match kind {
        1 => Event::CreateFile { inode, path: path() },
        2 => Event::CreateFolder { inode, path: path() },
        3 => {
            let (from, to) = paths();
            Event::Link { from, to }
        }
        4 => {
            let (from, to) = paths();
            Event::Rename { from, to }
        }
        5 => Event::Remove { path: path() },
        6 => Event::Write { inode, offset: b, bytes: rest.into() },
        7 => Event::SetLength { inode, length: b },
        8 => Event::SyncBegins { inode, ticket },
        9 => Event::SyncEnds { inode, ticket },
        10 => Event::SyncFails { inode, ticket },
        11 => Event::Fault {
            on: u32::try_from(a).unwrap(),
            error: i32::try_from(b).unwrap(),
            path: path(),
        },
        12 => Event::Unknown { number: a, path: path() },
        _ => panic!("the trace is damaged: an event of kind {kind}"),
    }
}
