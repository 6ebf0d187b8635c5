//! Reading a stream out of its layers. Every pack is read from front to back, and every frame is opened once.

use std::io::{self, BufReader, Read};

use crate::pack::compose::Composer;
use crate::pack::extent::{Extent, Layer};
use crate::pack::script::ScriptReader;

/// Buffer for an edit script, which is read byte by byte.
const SCRIPT_BUFFER: usize = 4 << 10;

/// Frames are opened whole. Of those of a layer's data, or of its script, so many bytes may be outside of its extents, and
/// [`BESIDE`] more for each byte that was read: else a few bytes here and there could cost any amount of time. Frames that
/// marbre wrote lie in one extent as a whole.
const WASTE: u64 = 64 << 20;
/// See [`WASTE`].
const BESIDE: u64 = 16;

/// The packs of a snapshot, by their place in its list.
pub(crate) trait PackSource {
    /// Puts the frame that holds this offset into `content`; returns the offset at which it starts.
    fn frame(&self, pack: u32, offset: u64, content: &mut Vec<u8>) -> io::Result<u64>;
    /// A frame of this pack will be wanted soon.
    fn upcoming(&self, pack: u32);
    /// One of the extents in this pack is done with. Called once for each extent of each layer that is read.
    fn finished(&self, pack: u32);
}

/// Reads the stream that these layers make, in pieces. Ends well only if the stream has the length of the last layer.
pub(crate) fn read<S: PackSource, E: From<io::Error>>(
    layers: &[Layer],
    source: &S,
    mut out: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let Some((bottom, top)) = layers.first().zip(layers.last()) else { return Ok(()) };
    let mut data: Vec<_> = layers.iter().map(|layer| Cursor::new(source, &layer.data)).collect();
    let scripts = layers.iter().skip(1).map(|layer| {
        ScriptReader::new(BufReader::with_capacity(SCRIPT_BUFFER, Cursor::new(source, &layer.script)))
    });
    let mut composer = Composer::new(bottom.length, scripts);
    let mut length = 0;
    while let Some(piece) = composer.next(u64::MAX)? {
        let cursor = &mut data[piece.source];
        cursor.go_to(piece.offset);
        let mut missing = piece.length;
        while missing > 0 {
            let bytes = cursor.next(missing)?;
            if bytes.is_empty() {
                return Err(invalid("a layer has fewer new bytes than its edit script takes").into());
            }
            missing -= bytes.len() as u64;
            out(bytes)?;
        }
        length += piece.length;
    }
    if length == top.length { Ok(()) } else { Err(invalid("a stream does not have its length").into()) }
}

/// Goes through some extents, forward only.
struct Cursor<'a, S: PackSource> {
    source: &'a S,
    extents: &'a [Extent],
    /// How much of the first of `extents` was passed.
    inside: u64,
    /// How much of all of them was passed.
    at: u64,
    /// How much was read, and not only passed.
    read: u64,
    /// How much of the frames that were opened is outside of the extents.
    wasted: u64,
    /// A frame, and where it is.
    content: Vec<u8>,
    place: Option<(u32, u64)>,
}

impl<'a, S: PackSource> Cursor<'a, S> {
    fn new(source: &'a S, extents: &'a [Extent]) -> Self {
        let content = Vec::new();
        let cursor = Self { source, extents, inside: 0, at: 0, read: 0, wasted: 0, content, place: None };
        extents.first().into_iter().filter_map(|e| e.pack).for_each(|pack| source.upcoming(pack));
        cursor.announce();
        cursor
    }

    /// Has the pack after the current one fetched while this one is read.
    fn announce(&self) {
        let Some(first) = self.extents.first() else { return };
        if let Some(pack) = self.extents.iter().find(|e| e.pack != first.pack).and_then(|e| e.pack) {
            self.source.upcoming(pack);
        }
    }

    /// Passes over the bytes before an offset.
    fn go_to(&mut self, offset: u64) {
        let mut length = offset.saturating_sub(self.at);
        while let Some(first) = self.extents.first()
            && length > 0
        {
            let step = length.min(first.length - self.inside);
            length -= step;
            self.pass(step);
        }
    }

    /// Counts what of the frame that was just opened is outside of the extent.
    fn waste(&mut self, extent: Extent, start: u64) -> io::Result<()> {
        let end = start + self.content.len() as u64;
        let before = extent.offset.saturating_sub(start);
        let after = end.saturating_sub(extent.offset.saturating_add(extent.length));
        self.wasted += before + after;
        if self.wasted > WASTE.saturating_add(self.read.saturating_mul(BESIDE)) {
            return Err(invalid(
                "a layer takes so few bytes of each frame that reading it would take too long: at most 64 MiB, and 16 bytes for each \
                 that is read, may lie beside its extents",
            ));
        }
        Ok(())
    }

    fn pass(&mut self, length: u64) {
        self.inside += length;
        self.at += length;
        if let Some(first) = self.extents.first()
            && self.inside == first.length
        {
            self.leave();
        }
    }

    fn leave(&mut self) {
        let Some((first, rest)) = self.extents.split_first() else { return };
        self.extents = rest;
        self.inside = 0;
        if let Some(pack) = first.pack {
            self.source.finished(pack);
        }
        if rest.first().is_some_and(|next| next.pack != first.pack) {
            self.announce();
        }
    }

    /// The next bytes, at most so many; nothing at the end.
    fn next(&mut self, limit: u64) -> io::Result<&[u8]> {
        let Some(extent) = self.extents.first().copied() else { return Ok(&[]) };
        let pack = extent.pack.ok_or_else(|| invalid("bytes of a lost pack are wanted"))?;
        let offset = extent.offset + self.inside;
        let holds = |start: u64, content: &[u8]| offset >= start && offset - start < content.len() as u64;
        let start = match self.place {
            Some((p, start)) if p == pack && holds(start, &self.content) => start,
            _ => {
                self.place = None;
                let start = self.source.frame(pack, offset, &mut self.content)?;
                if !holds(start, &self.content) {
                    return Err(invalid("an extent is outside its pack"));
                }
                self.waste(extent, start)?;
                self.place = Some((pack, start));
                start
            }
        };
        let from = (offset - start) as usize;
        let most = limit.min(extent.length - self.inside);
        let length = (self.content.len() - from).min(usize::try_from(most).unwrap_or(usize::MAX));
        self.pass(length as u64);
        self.read += length as u64;
        Ok(&self.content[from..from + length])
    }
}

impl<S: PackSource> Read for Cursor<'_, S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let bytes = self.next(into.len() as u64)?;
        into[..bytes.len()].copy_from_slice(bytes);
        Ok(bytes.len())
    }
}

impl<S: PackSource> Drop for Cursor<'_, S> {
    /// What was not read is done with too: later layers replaced it.
    fn drop(&mut self) {
        self.extents.iter().filter_map(|e| e.pack).for_each(|pack| self.source.finished(pack));
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::script::ScriptWriter;
    use std::sync::Mutex;

    /// Packs with frames of 10 bytes; notes what was asked for.
    struct Packs {
        content: Vec<Vec<u8>>,
        frames: Mutex<Vec<(u32, u64)>>,
        finished: Mutex<Vec<u32>>,
    }

    impl PackSource for Packs {
        fn frame(&self, pack: u32, offset: u64, content: &mut Vec<u8>) -> io::Result<u64> {
            let start = offset / 10 * 10;
            let bytes = &self.content[pack as usize];
            content.clear();
            content.extend(bytes.iter().skip(start as usize).take(10));
            self.frames.lock().unwrap().push((pack, start));
            Ok(start)
        }
        fn upcoming(&self, _: u32) {}
        fn finished(&self, pack: u32) {
            self.finished.lock().unwrap().push(pack);
        }
    }

    fn extent(pack: u32, offset: u64, length: u64) -> Extent {
        Extent { pack: Some(pack), offset, length }
    }

    fn packs() -> (Packs, Vec<Layer>) {
        let mut script = ScriptWriter::default();
        script.copy(15);
        script.skip(70);
        script.take(12);
        script.copy(10);
        script.end();
        let script = script.drain();
        let layers = vec![
            Layer { length: 100, script: Vec::new(), data: vec![extent(0, 0, 60), extent(1, 5, 40)] },
            Layer {
                length: 37,
                script: vec![extent(2, 0, script.len() as u64)],
                data: vec![extent(2, 20, 12)],
            },
        ];
        let mut third = script;
        third.resize(20, 0);
        third.extend(200..220);
        let content = vec![(0..60).collect(), (55..105).collect(), third];
        (Packs { content, frames: Mutex::default(), finished: Mutex::default() }, layers)
    }

    fn bytes(layers: &[Layer], source: &Packs) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        read(layers, source, |b| {
            bytes.extend_from_slice(b);
            Ok::<_, io::Error>(())
        })?;
        Ok(bytes)
    }

    #[test]
    fn frames_are_opened_once_and_only_if_needed() {
        let (packs, layers) = packs();
        let expected: Vec<u8> = (0..15).chain(200..212).chain(85..95).collect();
        assert_eq!(bytes(&layers, &packs).unwrap(), expected);
        let frames = packs.frames.into_inner().unwrap();
        let mut once = frames.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), frames.len(), "{frames:?}");
        assert!(!frames.contains(&(0, 50)), "skipped bytes are not opened");
        let mut finished = packs.finished.into_inner().unwrap();
        finished.sort_unstable();
        assert_eq!(finished, [0, 1, 2, 2]);
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let (packs, layers) = packs();
        let with = |change: &dyn Fn(&mut Vec<Layer>)| {
            let mut layers = layers.clone();
            change(&mut layers);
            bytes(&layers, &packs).unwrap_err().to_string()
        };
        assert!(with(&|l| l[1].length = 38).contains("length"));
        assert!(with(&|l| l[1].data[0].length = 11).contains("fewer new bytes"));
        assert!(with(&|l| l[0].data[1].pack = None).contains("lost pack"));
        assert!(with(&|l| l[1].data[0].offset = 200).contains("outside its pack"));
    }

    #[test]
    fn frames_of_which_next_to_nothing_is_read_are_not_opened_for_ever() {
        const FRAME: u64 = 1 << 20;
        #[derive(Default)]
        struct Frames(std::sync::atomic::AtomicU64);
        impl PackSource for Frames {
            fn frame(&self, _: u32, offset: u64, content: &mut Vec<u8>) -> io::Result<u64> {
                self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                content.resize(FRAME as usize, 0);
                Ok(offset / FRAME * FRAME)
            }
            fn upcoming(&self, _: u32) {}
            fn finished(&self, _: u32) {}
        }
        let opened = |length: u64, count: u64| {
            let data: Vec<Extent> = (0..count).map(|n| extent(0, n % 2 * FRAME, length)).collect();
            let layer = Layer { length: length * count, script: Vec::new(), data };
            let source = Frames::default();
            let read = read(&[layer], &source, |_| Ok::<_, io::Error>(()));
            (read.map_err(|e| e.to_string()), source.0.into_inner())
        };
        let (refused, frames) = opened(1, 1000);
        assert!(refused.unwrap_err().contains("64 MiB"));
        assert_eq!(frames, 65);
        // A sixteenth of each frame is enough, and so is little of a few.
        assert_eq!(opened(FRAME / 16, 1000), (Ok(()), 1000));
        assert_eq!(opened(1, 64), (Ok(()), 64));
    }

    #[test]
    fn lost_bytes_that_nothing_copies_do_not_matter() {
        let (packs, mut layers) = packs();
        layers[0].data =
            vec![extent(0, 0, 20), Extent { pack: None, offset: 0, length: 60 }, extent(1, 25, 20)];
        assert_eq!(bytes(&layers, &packs).unwrap().len(), 37);
    }
}
