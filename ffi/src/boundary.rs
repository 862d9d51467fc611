//! Where C ends and Rust begins.
//!
//! Nothing unwinds out of here. What comes in is copied out of the caller's memory first and what
//! goes out is copied into it last, by pointer, aligned or not: no reference to that memory is ever
//! made, except to the bytes of an id while they are hashed, and by then nothing has been written.
//! So arguments may overlap, and a struct may be its own output.
//!
//! A pointer that is not null is taken at its word: what the header says about it is the caller's
//! part. Lengths have bounds, so that a negative number that became a huge one is told.

use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::status::{Refusal, curfew_status};
use crate::types::curfew_error;

/// Longest session id, subject or binding.
const MOST_BYTES: usize = 1 << 20;
/// Most elements of an array.
const MOST_ELEMENTS: usize = 1 << 24;
/// No version of any struct will be this large.
const MOST_STRUCT: usize = 4096;

pub(crate) type Answer<T = ()> = Result<T, curfew_status>;

/// Runs what a function does.
pub(crate) fn guarded(what: impl FnOnce() -> Answer) -> curfew_status {
    match catch_unwind(AssertUnwindSafe(what)) {
        Ok(Ok(())) => curfew_status::CURFEW_OK,
        Ok(Err(status)) => status,
        Err(_) => curfew_status::CURFEW_PANIC,
    }
}

/// The same for a function that can say more about a refusal.
///
/// # Safety
/// `error` is null or points to a `curfew_error`.
pub(crate) unsafe fn explained(error: *mut curfew_error, what: impl FnOnce() -> Result<(), Refusal>) -> curfew_status {
    // SAFETY: passed on.
    let explain = match unsafe { Output::optional_sized(error) } {
        Ok(explain) => explain,
        Err(status) => return status,
    };
    let refusal = match catch_unwind(AssertUnwindSafe(what)) {
        Ok(Ok(())) => return curfew_status::CURFEW_OK,
        Ok(Err(refusal)) => refusal,
        Err(_) => curfew_status::CURFEW_PANIC.into(),
    };
    let status = refusal.status;
    if let Some(explain) = explain {
        explain.set(curfew_error::new(&refusal));
    }
    status
}

/// A struct that begins with its size, so that it can grow.
///
/// # Safety
/// `#[repr(C)]`, no padding, the first field is `struct_size: usize`, and any bit pattern is a value.
pub(crate) unsafe trait Growing: Copy {
    /// Its size in the first version that had it.
    const FIRST: usize;
}

fn is_a_size(size: usize, first: usize) -> bool {
    (first..=MOST_STRUCT).contains(&size)
}

/// Reads a struct that the caller has, in the caller's version of it. What an earlier version does
/// not have is zero. What a later version has must be zero, or the caller wants something from it.
///
/// # Safety
/// `from` is null or points to as many bytes as the `struct_size` there says.
pub(crate) unsafe fn read<T: Growing>(from: *const T) -> Answer<T> {
    if from.is_null() {
        return Err(curfew_status::CURFEW_NULL_ARGUMENT);
    }
    // SAFETY: every version begins with its size.
    let size = unsafe { from.cast::<usize>().read_unaligned() };
    if !is_a_size(size, T::FIRST) {
        return Err(curfew_status::CURFEW_STRUCT_SIZE);
    }
    let mut own = MaybeUninit::<T>::zeroed();
    // SAFETY: `size` bytes are the caller's, `size_of::<T>()` are ours, and the lesser is copied.
    unsafe { std::ptr::copy(from.cast::<u8>(), own.as_mut_ptr().cast::<u8>(), size.min(size_of::<T>())) };
    // SAFETY: as far as the caller's `size` goes.
    let byte = |at| unsafe { from.cast::<u8>().add(at).read() };
    if (size_of::<T>()..size).any(|at| byte(at) != 0) {
        return Err(curfew_status::CURFEW_UNSUPPORTED);
    }
    // SAFETY: all of it is initialised, and any bit pattern is a value (`Growing`).
    Ok(unsafe { own.assume_init() })
}

/// Where one output goes.
pub(crate) struct Output<T> {
    to: *mut T,
    size: usize,
}

impl<T: Copy> Output<T> {
    /// # Safety
    /// `to` is null or can be written.
    pub(crate) unsafe fn new(to: *mut T) -> Answer<Output<T>> {
        if to.is_null() { Err(curfew_status::CURFEW_NULL_ARGUMENT) } else { Ok(Output { to, size: size_of::<T>() }) }
    }

    /// An output that may be null, for those who do not want it.
    ///
    /// # Safety
    /// As for `new`.
    pub(crate) unsafe fn optional(to: *mut T) -> Output<T> {
        Output { to, size: size_of::<T>() }
    }

    pub(crate) fn set(self, value: T) {
        if !self.to.is_null() {
            // SAFETY: whoever made `self` has promised that it can be written.
            unsafe { self.to.write_unaligned(value) }
        }
    }
}

impl<T: Growing> Output<T> {
    /// A struct that the caller has set the `struct_size` of.
    ///
    /// # Safety
    /// `to` is null or points to as many bytes as the `struct_size` there says, which can be written.
    pub(crate) unsafe fn sized(to: *mut T) -> Answer<Output<T>> {
        if to.is_null() {
            return Err(curfew_status::CURFEW_NULL_ARGUMENT);
        }
        // SAFETY: every version begins with its size.
        let size = unsafe { to.cast::<usize>().read_unaligned() };
        if is_a_size(size, T::FIRST) { Ok(Output { to, size }) } else { Err(curfew_status::CURFEW_STRUCT_SIZE) }
    }

    /// # Safety
    /// As for `sized`.
    pub(crate) unsafe fn optional_sized(to: *mut T) -> Answer<Option<Output<T>>> {
        // SAFETY: passed on.
        if to.is_null() { Ok(None) } else { unsafe { Output::sized(to) }.map(Some) }
    }

    /// Writes as much of `value` as the caller's version has, and zeroes what a later one has more.
    pub(crate) fn set_sized(self, value: T) {
        // SAFETY: the caller has `size` bytes there (`sized`), and no more are written; the first
        // of them say so again.
        unsafe {
            let ours = size_of::<T>().min(self.size);
            let to = self.to.cast::<u8>();
            std::ptr::copy_nonoverlapping((&raw const value).cast::<u8>(), to, ours);
            to.add(ours).write_bytes(0, self.size - ours);
            self.to.cast::<usize>().write_unaligned(self.size);
        }
    }
}

/// Where an array of structs goes. The first one's `struct_size` is the distance between them.
pub(crate) struct Outputs<T> {
    to: *mut T,
    size: usize,
    pub(crate) room: usize,
}

impl<T: Growing> Outputs<T> {
    /// # Safety
    /// `to` points to `room` structs of the size that the first one's `struct_size` says, which can
    /// be written; it may be null if `room` is zero.
    pub(crate) unsafe fn new(to: *mut T, room: usize) -> Answer<Outputs<T>> {
        if room == 0 {
            return Ok(Outputs { to, size: size_of::<T>(), room });
        }
        if room > MOST_ELEMENTS {
            return Err(curfew_status::CURFEW_INVALID_ARGUMENT);
        }
        // SAFETY: there is at least one.
        let Output { to, size } = unsafe { Output::sized(to) }?;
        Ok(Outputs { to, size, room })
    }

    pub(crate) fn set(&self, nth: usize, value: T) {
        if nth < self.room {
            // SAFETY: the caller has `room` structs of `size` bytes there.
            let to = unsafe { self.to.cast::<u8>().add(nth * self.size).cast::<T>() };
            Output { to, size: self.size }.set_sized(value);
        }
    }

    fn bytes(&self) -> (usize, usize) {
        (self.to as usize, self.room * self.size)
    }

    /// Whether anything of `count` elements from `from` on lies in here.
    pub(crate) fn overlaps<S>(&self, from: *const S, count: usize) -> bool {
        let (to, bytes) = self.bytes();
        let (from, others) = (from as usize, count * size_of::<S>());
        from < to.saturating_add(bytes) && to < from.saturating_add(others)
    }
}

/// An array that the caller has.
pub(crate) struct Inputs<T> {
    from: *const T,
    count: usize,
}

impl<T: Copy> Inputs<T> {
    /// # Safety
    /// `from` points to `count` elements; it may be null if `count` is zero. Any bit pattern is a `T`.
    pub(crate) unsafe fn new(from: *const T, count: usize) -> Answer<Inputs<T>> {
        if count > MOST_ELEMENTS {
            return Err(curfew_status::CURFEW_INVALID_ARGUMENT);
        }
        if count > 0 && from.is_null() {
            return Err(curfew_status::CURFEW_NULL_ARGUMENT);
        }
        Ok(Inputs { from, count })
    }

    pub(crate) fn get(&self, nth: usize) -> Option<T> {
        // SAFETY: inside what the caller has promised.
        (nth < self.count).then(|| unsafe { self.from.add(nth).read_unaligned() })
    }
}

/// Reads one value.
///
/// # Safety
/// `from` is null or points to a `T`, of which any bit pattern is one.
pub(crate) unsafe fn value<T: Copy>(from: *const T) -> Answer<T> {
    // SAFETY: not null, and passed on.
    if from.is_null() { Err(curfew_status::CURFEW_NULL_ARGUMENT) } else { Ok(unsafe { from.read_unaligned() }) }
}

/// Gives `what` the bytes of an id. None at all is an empty one.
///
/// # Safety
/// `from` points to `length` bytes; it may be null if there are none.
pub(crate) unsafe fn bytes<R>(from: *const u8, length: usize, what: impl FnOnce(&[u8]) -> R) -> Answer<R> {
    if length > MOST_BYTES {
        return Err(curfew_status::CURFEW_INVALID_ARGUMENT);
    }
    if length == 0 {
        return Ok(what(&[]));
    }
    if from.is_null() {
        return Err(curfew_status::CURFEW_NULL_ARGUMENT);
    }
    // SAFETY: not null, as long as the caller says, and nothing is written before this is dropped.
    Ok(what(unsafe { std::slice::from_raw_parts(from, length) }))
}

/// Copies a text that ends with a zero; refuses one that has none in its first `most` bytes.
///
/// # Safety
/// `from` is null or points to a text that ends with a zero.
pub(crate) unsafe fn text(from: *const std::ffi::c_char, most: usize) -> Answer<Vec<u8>> {
    if from.is_null() {
        return Err(curfew_status::CURFEW_NULL_ARGUMENT);
    }
    let mut copy = Vec::new();
    for at in 0..most {
        // SAFETY: no zero has been seen before this byte.
        match unsafe { from.cast::<u8>().add(at).read() } {
            0 => return Ok(copy),
            byte => copy.push(byte),
        }
    }
    Err(curfew_status::CURFEW_INVALID_ARGUMENT)
}

/// Writes a text and its final zero.
///
/// # Safety
/// `to` can be written for `room` bytes; it may be null if there are none.
pub(crate) unsafe fn set_text(text: &[u8], to: *mut std::ffi::c_char, room: usize) -> Answer {
    if to.is_null() {
        return Err(curfew_status::CURFEW_NULL_ARGUMENT);
    }
    if text.len() >= room {
        return Err(curfew_status::CURFEW_BUFFER_TOO_SMALL);
    }
    // SAFETY: there is room for the text and one byte more.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr(), to.cast::<u8>(), text.len());
        to.add(text.len()).write(0);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_status() {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let status = guarded(|| std::panic::panic_any("a defect"));
        // SAFETY: null is allowed.
        let explained = unsafe { explained(std::ptr::null_mut(), || std::panic::panic_any("a defect")) };
        std::panic::set_hook(hook);
        assert_eq!((status, explained), (curfew_status::CURFEW_PANIC, curfew_status::CURFEW_PANIC));
    }

    #[repr(C)]
    #[derive(Clone, Copy, PartialEq, Debug)]
    struct Two {
        struct_size: usize,
        first: u64,
        second: u64,
    }

    // SAFETY: it is as the trait asks.
    unsafe impl Growing for Two {
        const FIRST: usize = 16;
    }

    fn read_words(words: &[u64]) -> Answer<Two> {
        // SAFETY: the tests pass as many words as the first one says, unless it is refused.
        unsafe { read(words.as_ptr().cast::<Two>()) }
    }

    #[test]
    fn an_earlier_versions_struct_is_read_with_zeroes_for_what_it_lacks() {
        assert_eq!(read_words(&[16, 7]), Ok(Two { struct_size: 16, first: 7, second: 0 }));
        assert_eq!(read_words(&[24, 7, 8]), Ok(Two { struct_size: 24, first: 7, second: 8 }));
    }

    #[test]
    fn a_later_versions_struct_is_read_if_it_asks_for_nothing_new() {
        assert_eq!(read_words(&[32, 7, 8, 0]), Ok(Two { struct_size: 32, first: 7, second: 8 }));
        assert_eq!(read_words(&[32, 7, 8, 1]), Err(curfew_status::CURFEW_UNSUPPORTED));
    }

    #[test]
    fn a_size_that_no_version_has_is_refused() {
        for size in [0, 1, 15, 4097, u64::MAX] {
            assert_eq!(read_words(&[size]), Err(curfew_status::CURFEW_STRUCT_SIZE));
        }
    }

    #[test]
    fn an_output_is_written_as_far_as_the_callers_version_goes() {
        let written = |mut words: [u64; 5]| {
            // SAFETY: none of the sizes below is larger than the array.
            let output = unsafe { Output::<Two>::sized((&raw mut words).cast()) }.unwrap();
            output.set_sized(Two { struct_size: 0, first: 7, second: 8 });
            words
        };
        assert_eq!(written([16, 1, 1, 1, 1]), [16, 7, 1, 1, 1]);
        assert_eq!(written([24, 1, 1, 1, 1]), [24, 7, 8, 1, 1]);
        assert_eq!(written([32, 1, 1, 1, 1]), [32, 7, 8, 0, 1]);
    }

    #[test]
    fn a_text_without_an_end_is_refused() {
        let endless = [b'x' as std::ffi::c_char; 64];
        // SAFETY: it is longer than what is looked at.
        assert_eq!(unsafe { text(endless.as_ptr(), 32) }, Err(curfew_status::CURFEW_INVALID_ARGUMENT));
    }
}
