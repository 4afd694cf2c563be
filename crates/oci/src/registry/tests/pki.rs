//! Certificates for tests, made by openssl(1).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use virtinitrd_vm_tests::tool;

/// An authority that makes certificates.
pub(super) struct Authority {
    dir: PathBuf,
}

impl Authority {
    /// Makes an authority whose files are in `dir`.
    pub(super) fn new(dir: &Path) -> Self {
        let new = Self { dir: dir.to_path_buf() };
        let options = ["-addext", "keyUsage=critical,keyCertSign"];
        new.make("ca", &options);
        new
    }

    /// The file of the authority's own certificate.
    pub(super) fn file(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    /// Makes a certificate for `names` (as openssl's `subjectAltName`) and returns the files of
    /// the certificate and its key.
    pub(super) fn certify(&self, file: &str, names: &str) -> (PathBuf, PathBuf) {
        let [ca, key] = ["ca.crt", "ca.key"].map(|name| self.dir.join(name).display().to_string());
        let names = format!("subjectAltName={names}");
        let options =
            ["-CA", &ca, "-CAkey", &key, "-addext", &names, "-addext", "basicConstraints=CA:FALSE"];
        self.make(file, &options);
        (self.dir.join(format!("{file}.crt")), self.dir.join(format!("{file}.key")))
    }

    /// The settings of a server for `names`.
    pub(super) fn server(&self, file: &str, names: &str) -> Arc<ServerConfig> {
        let (certificate, key) = self.certify(file, names);
        settings(&certificate, &key)
    }

    /// Makes a certificate for `names` that certifies itself and could certify others. Returns
    /// its file, and the settings of a server with it.
    pub(super) fn self_signed(&self, names: &str) -> (PathBuf, Arc<ServerConfig>) {
        self.make("self", &["-addext", &format!("subjectAltName={names}")]);
        let certificate = self.dir.join("self.crt");
        let config = settings(&certificate, &self.dir.join("self.key"));
        (certificate, config)
    }

    fn make(&self, file: &str, options: &[&str]) {
        let output = tool("openssl")
            .current_dir(&self.dir)
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
            .args(["-nodes", "-days", "30", "-subj", &format!("/CN={file}")])
            .args(["-keyout", &format!("{file}.key"), "-out", &format!("{file}.crt")])
            .args(options)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

fn settings(certificate: &Path, key: &Path) -> Arc<ServerConfig> {
    let certificate = CertificateDer::from_pem_slice(&fs::read(certificate).unwrap()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(&fs::read(key).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    Arc::new(config)
}
