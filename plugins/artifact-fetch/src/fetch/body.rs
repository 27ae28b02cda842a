//! The body of an answer, on its way to the disk.

use std::path::{Path, PathBuf};

use reqwest::Response;
use sha2::{Digest, Sha256};
use tokio::{fs, io::AsyncWriteExt};

use super::FetchError;
use crate::http;

/// What was written.
pub(super) struct Saved {
    pub(super) sha256: String,
    pub(super) size: u64,
}

/// Writes the body to a file beside `to`, checks it, syncs it and gives it its name.
pub(super) async fn save(
    response: Response,
    to: &Path,
    max_bytes: u64,
    expected: Option<&str>,
) -> Result<Saved, FetchError> {
    if let Some(announced) = response.content_length().filter(|length| *length > max_bytes) {
        return Err(FetchError::TooLarge {
            announced: Some(announced),
            max_bytes,
        });
    }
    let part = beside(to);
    let saved = write(response, &part, max_bytes).await?;
    if let Some(expected) = expected.filter(|expected| *expected != saved.sha256) {
        let (expected, found) = (expected.to_owned(), saved.sha256);
        return Err(FetchError::Digest {
            expected,
            found,
            size: saved.size,
        });
    }
    fs::rename(&part, to).await?;
    if let Some(directory) = to.parent() {
        fs::File::open(directory).await?.sync_all().await?;
    }
    Ok(saved)
}

async fn write(mut response: Response, part: &Path, max_bytes: u64) -> Result<Saved, FetchError> {
    let announced = response.content_length();
    let mut file = fs::File::create(part).await?;
    let mut hash = Sha256::new();
    let mut size = 0;
    let interrupted = |size, error| FetchError::Interrupted {
        size,
        announced,
        cause: http::chain(error),
    };
    while let Some(chunk) = response.chunk().await.map_err(|error| interrupted(size, error))? {
        size += chunk.len() as u64;
        if size > max_bytes {
            return Err(FetchError::TooLarge { announced, max_bytes });
        }
        hash.update(&chunk);
        file.write_all(&chunk).await?;
    }
    file.sync_all().await?;
    Ok(Saved {
        sha256: hexadecimal(&hash.finalize()),
        size,
    })
}

/// The name under which a file is written until it is whole.
fn beside(to: &Path) -> PathBuf {
    let mut name = to.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
