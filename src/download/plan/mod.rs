//! Which bytes are there, and who fetches which of the others. Pure: the time is an argument.
//!
//! # Theory
//!
//! A *claim* is a span that one connection fetches from its start to its end. Claims never overlap,
//! and none has a byte that is present; so without failures each byte is fetched once. The first
//! claim is the whole file. Whoever is free after that takes the second part of the claim that
//! would take longest, at the place where both will be done at the same time. The request of
//! the first part runs on and is closed at its new end: nothing is planned in advance, so a slow
//! connection costs nothing but the time until another one is free. A claim that has stalled (which
//! is seen sooner when others move meanwhile), or is hopelessly slow, is taken over whole. Not while
//! its bytes are being written: they could come to lie over better ones that came since. Each time
//! that taking over brings nothing, the next one takes twice the patience, or claims would wander
//! around before a slow server's first byte. A claim that is given back untouched goes to the one
//! before it, whose request still runs on.
//!
//! With a tree, groups are verified once all of their bytes are present. Until then a group is
//! *unverified*, and left out of [`Plan::checkpoint`]: what the journal says is there is right.

mod spans;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

pub use self::spans::Spans;
use crate::protocol::tree::GROUP_BYTES;

/// A claim that did not move for this long is free to be taken; and only one this old is slow.
const STALLED: Duration = Duration::from_secs(2);
/// A claim that had moved before has stalled, too, when it did not move for this long …
const SILENT: Duration = Duration::from_millis(500);
/// … and others went on for so much of it.
const LEFT_BEHIND: Duration = Duration::from_millis(200);
/// A claim that will be done so soon is left alone, as long as it is not known how long a request
/// takes to bring its first byte …
const NEARLY_DONE: Duration = Duration::from_millis(200);
/// … and within so many times that, in which another one would bring something worth it …
const FIRST_BYTES: u32 = 3;
/// … but neither below nor above this.
const LEAST_NEARLY_DONE: Duration = Duration::from_millis(10);
const MOST_NEARLY_DONE: Duration = Duration::from_secs(1);
/// Without a tree, spans are cut at multiples of this many bytes.
const PLAIN_GRAIN: u64 = 128 << 10;

/// The number of a claim; it is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimId(u64);

/// A claim that was just made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Its number.
    pub id: ClaimId,
    /// What to fetch. The end may come nearer later: see [`Plan::end_of`].
    pub range: Range<u64>,
}

#[derive(Clone, Debug)]
struct Claim {
    /// The next byte to come.
    at: u64,
    end: u64,
    /// So many of the next bytes are on their way to the file.
    writing: u64,
    since: Duration,
    moved: Duration,
    came: u64,
}

impl Claim {
    fn rest(&self) -> u64 {
        self.end.saturating_sub(self.at)
    }

    /// Bytes a second, if anything came.
    fn pace(&self, now: Duration) -> Option<u64> {
        let ms = now.saturating_sub(self.since).as_millis().max(1);
        let pace = u128::from(self.came).saturating_mul(1000).checked_div(ms)?;
        (self.came > 0).then(|| u64::try_from(pace).unwrap_or(u64::MAX).max(1))
    }
}

/// How it stands with a claim.
struct Rating {
    /// In bytes a second.
    pace: u64,
    left_ms: u64,
    /// It has stalled, or whoever is free would need less than a quarter of the time.
    is_hopeless: bool,
}

/// What is there of a file of a known length, and who fetches the rest.
#[derive(Clone, Debug)]
pub struct Plan {
    length: u64,
    has_groups: bool,
    present: Spans,
    /// Groups that are present, and not known to be right.
    unverified: BTreeSet<u64>,
    claims: BTreeMap<ClaimId, Claim>,
    next_id: u64,
    /// Claims taken over since any byte came.
    vain: u32,
    /// When any claim moved last.
    moved: Duration,
    /// How long the quickest request took to be answered.
    first_byte: Option<Duration>,
    /// Whether it is our own doing that connections wait for each other.
    takes_turns: bool,
}

impl Plan {
    /// The plan for a file of `length` bytes of which `present` is there and right. With
    /// `has_groups` each group has to be verified as it becomes complete.
    pub fn new(length: u64, has_groups: bool, present: Spans) -> Self {
        let mut present = present;
        present.remove(length..u64::MAX);
        let (unverified, claims) = (BTreeSet::new(), BTreeMap::new());
        let (next_id, vain, moved) = (0, 0, Duration::ZERO);
        let (first_byte, takes_turns) = (None, false);
        Self {
            length,
            has_groups,
            present,
            unverified,
            claims,
            next_id,
            vain,
            moved,
            first_byte,
            takes_turns,
        }
    }

    /// The same plan for connections that share a limit of the rate: that others move meanwhile says
    /// nothing about one of them.
    #[must_use]
    pub fn taking_turns(self, takes_turns: bool) -> Self {
        Self { takes_turns, ..self }
    }

    fn grain(&self) -> u64 {
        if self.has_groups { GROUP_BYTES } else { PLAIN_GRAIN }
    }

    /// The number of bytes that are present.
    pub fn present_bytes(&self) -> u64 {
        self.present.total()
    }

    /// Where the first byte is missing; `None` when none is.
    pub fn first_gap(&self) -> Option<u64> {
        self.present.gaps(self.length).next().map(|gap| gap.start)
    }

    /// Whether all bytes are present and verified.
    pub fn is_complete(&self) -> bool {
        self.unverified.is_empty() && self.present.contains(0..self.length)
    }

    /// What is present and right, for the journal.
    pub fn checkpoint(&self) -> Spans {
        let mut right = self.present.clone();
        for index in &self.unverified {
            right.remove(self.group_range(*index));
        }
        right
    }

    fn group_range(&self, index: u64) -> Range<u64> {
        let start = index.saturating_mul(GROUP_BYTES);
        start..start.saturating_add(GROUP_BYTES).min(self.length)
    }

    /// Something to fetch for a connection that is free, and has fetched `pace` bytes a second so
    /// far, if that is known. `None` when there is nothing, or nothing that is worth taking from
    /// another; that may change.
    pub fn claim(&mut self, now: Duration, pace: Option<u64>) -> Option<Granted> {
        let range = match self.unclaimed() {
            Some(gap) => gap,
            None => self.take_from_slowest(now, pace)?,
        };
        let id = ClaimId(self.next_id);
        self.next_id = self.next_id.saturating_add(1);
        let Range { start, end } = range.clone();
        self.claims
            .insert(id, Claim { at: start, end, writing: 0, since: now, moved: now, came: 0 });
        Some(Granted { id, range })
    }

    /// The first span that is neither present nor claimed.
    fn unclaimed(&self) -> Option<Range<u64>> {
        let mut claimed: Vec<Range<u64>> =
            self.claims.values().map(|claim| claim.at..claim.end).collect();
        claimed.sort_unstable_by_key(|range| range.start);
        let mut claimed = claimed.into_iter().filter(|range| !range.is_empty()).peekable();
        self.present.gaps(self.length).find_map(|gap| {
            let mut start = gap.start;
            // Those that lie at the beginning of the gap, one behind the other.
            while let Some(range) = claimed.next_if(|range| range.start <= start) {
                start = range.end.max(start);
            }
            let end = claimed.peek().map_or(gap.end, |next| next.start.min(gap.end));
            (start < end).then_some(start..end)
        })
    }

    fn take_from_slowest(&mut self, now: Duration, pace: Option<u64>) -> Option<Range<u64>> {
        let paces: Vec<u64> = self.claims.values().filter_map(|claim| claim.pace(now)).collect();
        let count = u64::try_from(paces.len()).unwrap_or(1).max(1);
        let mean = paces.iter().fold(0, |sum: u64, pace| sum.saturating_add(*pace)) / count;
        let own = pace.unwrap_or(mean).max(1);
        let usual = mean.max(own);
        let patience = STALLED.saturating_mul(1 << self.vain.min(10));
        let rated = self.claims.iter().map(|(id, claim)| {
            let pace = claim.pace(now).unwrap_or(usual);
            let silent = now.saturating_sub(claim.moved);
            let is_left_behind = !self.takes_turns
                && claim.came > 0
                && silent >= SILENT
                && self.moved.saturating_sub(claim.moved) >= LEFT_BEHIND;
            let has_stalled = is_left_behind || silent >= patience;
            let left_ms = claim.rest().saturating_mul(1000) / pace;
            let is_slow = left_ms > claim.rest().saturating_mul(4000) / own + 1000
                && now.saturating_sub(claim.since) >= patience;
            let left_ms = if has_stalled { u64::MAX } else { left_ms };
            (*id, claim.clone(), Rating { pace, left_ms, is_hopeless: has_stalled || is_slow })
        });
        let nearly_done = self.first_byte.map_or(NEARLY_DONE, |first_byte| {
            first_byte.saturating_mul(FIRST_BYTES).clamp(LEAST_NEARLY_DONE, MOST_NEARLY_DONE)
        });
        let nearly_done = u64::try_from(nearly_done.as_millis()).unwrap_or(u64::MAX);
        let worthwhile = rated.filter(|(_, claim, rating)| {
            let left = claim.rest().saturating_sub(claim.writing);
            let is_free = rating.is_hopeless && claim.writing == 0;
            left > 0
                && rating.left_ms > nearly_done
                && (is_free || left >= self.grain().saturating_mul(2))
        });
        let (id, slowest, rating) =
            worthwhile.max_by_key(|(_, claim, rating)| (rating.left_ms, claim.rest()))?;
        if rating.is_hopeless && slowest.writing == 0 {
            self.claims.remove(&id);
            self.vain = self.vain.saturating_add(1);
            return Some(slowest.at..slowest.end);
        }
        let kept = u128::from(slowest.rest()).saturating_mul(u128::from(rating.pace))
            / u128::from(rating.pace.saturating_add(own));
        let kept = u64::try_from(kept).unwrap_or(slowest.rest());
        let cut = self.cut(&slowest, kept);
        self.claims.get_mut(&id)?.end = cut;
        Some(cut..slowest.end)
    }

    /// The multiple of the grain that is nearest to where a claim keeps so many bytes, and leaves
    /// something to both.
    fn cut(&self, claim: &Claim, kept: u64) -> u64 {
        let grain = self.grain();
        let near = claim.at.saturating_add(kept).saturating_add(grain / 2) / grain * grain;
        let first = claim.at.saturating_add(claim.writing.max(1)).next_multiple_of(grain);
        let last = claim.end.saturating_sub(1) / grain * grain;
        near.clamp(first, last.max(first))
    }

    /// A request was answered after this time.
    pub fn answered(&mut self, after: Duration) {
        self.first_byte = Some(self.first_byte.map_or(after, |before| before.min(after)));
    }

    /// Where a claim ends now; `None` when another connection took it over.
    pub fn end_of(&self, id: ClaimId) -> Option<u64> {
        self.claims.get(&id).map(|claim| claim.end)
    }

    /// The next `bytes` bytes of a claim are about to be written, until [`Plan::advance`]: how many of
    /// them may be. `None` when another connection took the claim over.
    pub fn writing(&mut self, id: ClaimId, bytes: u64) -> Option<u64> {
        let claim = self.claims.get_mut(&id)?;
        claim.writing = bytes.min(claim.rest());
        Some(claim.writing)
    }

    /// The next `bytes` bytes of a claim are in the file. The groups that are all present by that,
    /// which are to be verified now. What lies beyond the claim is not counted.
    pub fn advance(&mut self, id: ClaimId, bytes: u64, now: Duration) -> Vec<u64> {
        let Some(came) = self.moved(id, bytes, now) else { return Vec::new() };
        self.present.insert(came.clone());
        if !self.has_groups || came.is_empty() {
            return Vec::new();
        }
        let touched = came.start / GROUP_BYTES..came.end.div_ceil(GROUP_BYTES);
        let complete: Vec<u64> =
            touched.filter(|index| self.present.contains(self.group_range(*index))).collect();
        self.unverified.extend(&complete);
        complete
    }

    fn moved(&mut self, id: ClaimId, bytes: u64, now: Duration) -> Option<Range<u64>> {
        let claim = self.claims.get_mut(&id)?;
        let start = claim.at;
        claim.at = start.saturating_add(bytes).min(claim.end);
        (claim.moved, claim.writing) = (now, 0);
        (self.vain, self.moved) = (0, now);
        claim.came = claim.came.saturating_add(bytes);
        Some(start..claim.at)
    }

    /// A group is right.
    pub fn verified(&mut self, index: u64) {
        self.unverified.remove(&index);
    }

    /// A group is wrong: its bytes are missing again. Their number.
    pub fn rejected(&mut self, index: u64) -> u64 {
        self.unverified.remove(&index);
        let range = self.group_range(index);
        let bytes = range.end.saturating_sub(range.start);
        self.present.remove(range);
        bytes
    }

    /// The connection does not fetch this claim any more; what it did not fetch is anybody's. How
    /// fast it was, if anything came.
    pub fn release(&mut self, id: ClaimId, now: Duration) -> Option<u64> {
        let claim = self.claims.remove(&id)?;
        let untouched = claim.came == 0 && claim.rest() > 0;
        let before = self.claims.values_mut().find(|before| before.end == claim.at);
        if let Some(before) = before.filter(|before| untouched && before.rest() > 0) {
            before.end = claim.end;
        }
        claim.pace(now)
    }
}
