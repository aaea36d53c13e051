//! What has been read of a stream and may have to be sent again. Pure.

use std::collections::VecDeque;

use bytes::Bytes;

/// Bytes of a stream, from an offset on.
#[derive(Clone, Debug, Default)]
pub struct Window {
    begin: u64,
    end: u64,
    blocks: VecDeque<Bytes>,
}

impl Window {
    /// Where the bytes begin that are still here.
    pub fn begin(&self) -> u64 {
        self.begin
    }

    /// Where they end.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Takes the bytes that follow.
    pub fn push(&mut self, block: Bytes) {
        self.end += u64::try_from(block.len()).unwrap_or(u64::MAX);
        self.blocks.push_back(block);
    }

    /// The bytes before `offset` are safe. What was let go before does not come back.
    pub fn release(&mut self, offset: u64) {
        while self.begin < offset.min(self.end) {
            let Some(mut block) = self.blocks.pop_front() else { return };
            let length = u64::try_from(block.len()).unwrap_or(u64::MAX);
            if self.begin + length > offset {
                let cut = usize::try_from(offset - self.begin).unwrap_or(usize::MAX);
                self.blocks.push_front(block.split_off(cut.min(block.len())));
                self.begin = offset;
                return;
            }
            self.begin += length;
        }
    }

    /// Some of the bytes from `begin` on, before `end`; none when they are not here.
    pub fn read(&self, begin: u64, end: u64) -> Bytes {
        let mut offset = self.begin;
        for block in &self.blocks {
            let length = u64::try_from(block.len()).unwrap_or(u64::MAX);
            if (offset..offset + length).contains(&begin) {
                let at = |place: u64| usize::try_from(place - offset).unwrap_or(usize::MAX);
                return block.slice(at(begin)..at(end.clamp(begin, offset + length)));
            }
            offset += length;
        }
        Bytes::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_window_gives_what_was_put_in_and_not_released(
            blocks in prop::collection::vec(1_usize..20, 1..10),
            released in prop::collection::vec(0_u64..220, 0..5),
            (begin, length) in (0_u64..220, 0_u64..50),
        ) {
            let all: Vec<u8> = (0..=255).take(blocks.iter().sum()).collect();
            let mut window = Window::default();
            let mut rest = Bytes::from(all.clone());
            for block in blocks {
                window.push(rest.split_to(block));
            }
            let total = u64::try_from(all.len()).unwrap();
            prop_assert_eq!(window.end(), total);
            for offset in &released {
                window.release(*offset);
            }
            let gone = released.iter().copied().max().unwrap_or(0).min(total);
            prop_assert_eq!(window.begin(), gone);
            let end = (begin + length).min(total);
            let (mut read, mut at) = (Vec::new(), begin);
            while at < end {
                let bytes = window.read(at, end);
                if bytes.is_empty() {
                    break;
                }
                at += u64::try_from(bytes.len()).unwrap();
                read.extend_from_slice(&bytes);
            }
            if begin >= gone && begin < end {
                let index = |offset: u64| usize::try_from(offset).unwrap();
                prop_assert_eq!(&read[..], &all[index(begin)..index(end)]);
            } else {
                prop_assert!(read.is_empty());
            }
        }
    }
}
