//! The frames of a WebSocket (RFC 6455, section 5.2), as far as it takes to tell what people say from
//! pings, pongs and closes, which browsers and libraries send by themselves. Nothing is kept of what is
//! in them.

/// One direction of a WebSocket, read to some point.
#[derive(Clone, Copy)]
pub(crate) struct Frames {
    /// Bytes of the frame's head that have come.
    head: u8,
    /// How many of these there are in all, once the second has come.
    whole: u8,
    /// How many of these, after the second, have the length of the payload.
    length: u8,
    /// Bytes of the payload that are still to come.
    left: u64,
    is_data: bool,
}

/// Opcodes from here on are control frames.
const CONTROL: u8 = 8;
const MASK: u8 = 4;

impl Frames {
    pub(crate) const NEW: Frames = Frames { head: 0, whole: 2, length: 0, left: 0, is_data: false };

    /// Reads on; says whether there was a data frame, or some of one, among these bytes.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> bool {
        let mut was_data = false;
        while let Some((&first, rest)) = bytes.split_first() {
            if self.head < self.whole {
                self.head_byte(first);
                bytes = rest;
            } else {
                let some = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.left -= some as u64;
                bytes = &bytes[some..];
            }
            was_data |= self.is_data;
            if self.head == self.whole && self.left == 0 {
                *self = Frames::NEW;
            }
        }
        was_data
    }

    fn head_byte(&mut self, byte: u8) {
        let number = self.head;
        self.head += 1;
        match number {
            0 => self.is_data = byte & 0x0f < CONTROL,
            1 => {
                let mask = if byte & 0x80 == 0 { 0 } else { MASK };
                let (left, length) = match byte & 0x7f {
                    126 => (0, 2),
                    127 => (0, 8),
                    short => (u64::from(short), 0),
                };
                self.left = left;
                self.whole = 2 + length + mask;
                self.length = length;
            }
            _ if number < 2 + self.length => self.left = self.left << 8 | u64::from(byte),
            _ => {}
        }
    }
}
