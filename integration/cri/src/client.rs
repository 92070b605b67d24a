// SPDX-License-Identifier: Apache-2.0
//! The CRI's client, for tests that are not asynchronous.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::{ImageSpec, ImageStatusRequest};
use tokio::runtime::{Builder, Runtime};
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};
use wedge_integration::wait;

/// How long a call may take; a kubelet gives most of them two minutes.
const LIMIT: Duration = Duration::from_secs(60);

/// One connection to containerd's socket.
pub struct Client {
    runtime: Runtime,
    service: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    /// Connects to a Unix socket.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn connect(socket: &Path) -> Result<Client> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()))?;
        let channel = runtime.block_on(endpoint.connect()).context("connecting to containerd")?;
        let images = ImageServiceClient::new(channel.clone());
        Ok(Client { runtime, service: RuntimeServiceClient::new(channel), images })
    }

    /// Makes one call.
    ///
    /// # Errors
    /// What the server answers, or that it does not within a minute.
    pub fn call<T>(
        &self,
        call: impl AsyncFnOnce(RuntimeServiceClient<Channel>) -> Result<Response<T>, Status>,
    ) -> Result<T, Status> {
        self.answer(call(self.service.clone()))
    }

    /// Whether CRI knows an image: it hears of one that `ctr` has imported a little later.
    ///
    /// # Errors
    /// Those of [`Client::call`].
    pub(crate) fn has_image(&self, name: &str) -> Result<bool, Status> {
        let image = Some(ImageSpec { image: name.to_owned(), ..ImageSpec::default() });
        let request = ImageStatusRequest { image, ..ImageStatusRequest::default() };
        let mut images = self.images.clone();
        Ok(self.answer(images.image_status(request))?.image.is_some())
    }

    fn answer<T>(
        &self,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Status> {
        let answer = async {
            let answer = tokio::time::timeout(wait::scaled(LIMIT), answer);
            answer.await.map_err(|_| Status::deadline_exceeded("the test's own limit"))?
        };
        self.runtime.block_on(answer).map(Response::into_inner)
    }
}
