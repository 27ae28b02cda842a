//! The certificate's files, as they are watched: another is taken into use when they have changed and come to rest.

use std::{fs, path::PathBuf};

use tokio_util::sync::CancellationToken;

use crate::{
    ingress::Tls,
    watch::{Mark, Scene, Watch},
};

/// Both files.
struct Files(Tls);

impl Scene for Files {
    type Picture = [Option<Mark>; 2];

    fn picture(&self) -> Self::Picture {
        // Of a link, as `certbot` and Kubernetes have them, what it leads to.
        self.0
            .files()
            .map(|path| fs::metadata(path).ok().as_ref().map(Mark::of))
    }

    fn directories(&self) -> Vec<PathBuf> {
        let files = self.0.files().into_iter();
        let directories = files.flat_map(|path| [Some(path.to_owned()), fs::canonicalize(path).ok()]);
        let mut directories: Vec<_> = directories
            .flatten()
            .filter_map(|path| Some(path.parent()?.to_owned()))
            .collect();
        directories.dedup();
        directories
    }

    fn name(&self) -> &'static str {
        "certificate"
    }
}

/// Takes another certificate into use whenever the files change, until `stop`. One that cannot be used changes nothing.
pub(super) async fn follow(tls: Tls, stop: CancellationToken) {
    let mut watch = Watch::begin(Files(tls.clone()));
    // It may have changed since it was read: between the one and the other lies the rest of the start.
    renew(&tls, false);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = watch.changed() => renew(&tls, true),
        }
    }
}

fn renew(tls: &Tls, changed: bool) {
    match tls.renew() {
        Ok(()) if changed => tracing::info!("another certificate is in use"),
        Ok(()) => {}
        Err(error) => {
            tracing::error!(%error, "the certificate changed and cannot be used; the one from before stays in use");
        }
    }
}
