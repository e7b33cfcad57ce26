//! Where `pub` reads from, and files that are read whole. What may block is done on a thread of its own, so
//! that a signal ends the program meanwhile.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;

use super::exit::{Exit, Failure};
use super::wait::{Interrupt, POLL_INTERVAL};

/// What `--file` names when it means standard input.
const STDIN_NAME: &str = "-";

/// The largest secret file. A longer one is a mistake, such as a device without an end.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Where the records come from, checked but not opened: opening a FIFO waits for its writer.
pub(crate) enum InputSource {
    /// Standard input.
    Stdin,
    /// A file or a FIFO that exists.
    File(PathBuf),
}

impl InputSource {
    /// The source that `--file` names.
    pub(crate) fn find(file: Option<&Path>) -> Result<InputSource, Failure> {
        let Some(path) = file.filter(|path| *path != Path::new(STDIN_NAME)) else {
            return Ok(InputSource::Stdin);
        };
        let refused = |why: &str| {
            Failure::new(Exit::CannotStart, format!("cannot read {}: {why}", path.display()))
                .cure("leave out --file to read standard input")
        };
        let kind = fs::metadata(path).map_err(|error| refused(&error.to_string()))?.file_type();
        if kind.is_dir() {
            return Err(refused("it is a directory"));
        }
        if kind.is_file() {
            // Opens at once, so a missing permission is told before any consumer is waited for.
            File::open(path).map_err(|error| refused(&error.to_string()))?;
        }
        Ok(InputSource::File(path.to_owned()))
    }

    /// Opens it; may wait for the writer of a FIFO.
    pub(crate) fn open(self) -> io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            InputSource::Stdin => Box::new(io::stdin()),
            InputSource::File(path) => Box::new(File::open(path)?),
        })
    }
}

/// The bytes of a secret file, which may be a FIFO.
pub(crate) fn read_secret(path: &Path, interrupt: &Interrupt) -> Result<Vec<u8>, Failure> {
    let name = path.display();
    let refused = |why: String| {
        Failure::new(Exit::CannotStart, why).cure("make one with: head -c 32 /dev/urandom > FILE")
    };
    let file = path.to_owned();
    let read = move || {
        let mut bytes = Vec::new();
        File::open(file)?.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = on_a_thread(read, interrupt)
        .map_err(|exit| Failure::new(exit, format!("interrupted while reading the secret file {name}")))?
        .map_err(|error: io::Error| refused(format!("cannot read the secret file {name}: {error}")))?;
    match bytes.len() as u64 {
        0 => Err(refused(format!("the secret file {name} is empty"))),
        1..=SECRET_BYTES_MAX => Ok(bytes),
        _ => Err(refused(format!("the secret file {name} is longer than 64 KiB"))),
    }
}

/// The result of `work`, which may block for ever; the exit code if a signal comes first.
fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
    interrupt: &Interrupt,
) -> Result<io::Result<T>, Exit> {
    let (done, result) = mpsc::channel();
    let started = thread::Builder::new().name("corewire-read".into()).spawn(move || {
        // The receiver is gone after a signal.
        let _ = done.send(work());
    });
    if let Err(error) = started {
        return Ok(Err(error));
    }
    loop {
        match result.recv_timeout(POLL_INTERVAL) {
            Ok(result) => return Ok(result),
            Err(RecvTimeoutError::Disconnected) => return Ok(Err(io::Error::other("the thread has ended"))),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if let Some(exit) = interrupt.asked() {
            return Err(exit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_file_must_exist_and_be_neither_empty_nor_endless() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let interrupt = Interrupt::default();
        let read = |path: &Path| read_secret(path, &interrupt);
        assert_eq!(read(&path).unwrap_err().exit, Exit::CannotStart);
        fs::write(&path, "").unwrap();
        assert_eq!(read(&path).unwrap_err().exit, Exit::CannotStart);
        fs::write(&path, "open sesame").unwrap();
        assert_eq!(read(&path).unwrap(), b"open sesame");
        let endless = read(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(endless.exit, Exit::CannotStart);
        assert!(endless.cause.contains("longer than 64 KiB"), "{}", endless.cause);
    }

    #[test]
    fn minus_means_standard_input_and_a_directory_is_refused() {
        assert!(matches!(InputSource::find(None), Ok(InputSource::Stdin)));
        assert!(matches!(InputSource::find(Some(Path::new("-"))), Ok(InputSource::Stdin)));
        let folder = tempfile::tempdir().unwrap();
        let Err(refused) = InputSource::find(Some(folder.path())) else { panic!("a directory was taken") };
        assert!(refused.cause.contains("is a directory"), "{}", refused.cause);
        let Err(missing) = InputSource::find(Some(&folder.path().join("none"))) else { panic!("found") };
        assert_eq!(missing.exit, Exit::CannotStart);
    }
}
