//! A real git server: nginx speaks TLS with a certificate of a private CA, asks for a token and hands over to `git http-backend`.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::wait;

/// nginx and fcgiwrap, serving every repository below one folder at `https://localhost:<port>/<name>`; both end with the value.
#[derive(Debug)]
pub struct GitServer {
    nginx: Child,
    fcgiwrap: Child,
    port: u16,
    dir: PathBuf,
}

impl GitServer {
    /// The user name and password that the server asks for, as a token file holds them.
    pub const TOKEN: &'static str = "reader:s3cret-of-this-test";

    /// Starts a server for the repositories below `repositories`, with its own files in `dir`.
    ///
    /// # Errors
    /// When nginx, fcgiwrap or git's http-backend is not installed, or does not answer within ten seconds.
    pub fn start(dir: &Path, repositories: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let backend = git_exec_path()?.join("git-http-backend");
        ensure!(
            backend.exists(),
            "{} is missing: install git with its http-backend",
            backend.display()
        );
        make_certificates(dir)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let socket = dir.join("fcgi.sock");
        let fcgiwrap = Command::new("/usr/sbin/fcgiwrap")
            .args(["-c", "2", "-s"])
            .arg(format!("unix:{}", socket.display()))
            // The repositories belong to whoever runs the test.
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "safe.directory")
            .env("GIT_CONFIG_VALUE_0", "*")
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .context("fcgiwrap (apt-get install fcgiwrap)")?;
        let config = dir.join("nginx.conf");
        std::fs::write(&config, nginx_config(dir, repositories, &backend, port)?)?;
        let nginx = Command::new("/usr/sbin/nginx")
            .arg("-p")
            .arg(dir)
            .arg("-c")
            .arg(&config)
            .args(["-e", "error.log"])
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .context("nginx (apt-get install nginx-light)")?;
        let server = Self {
            nginx,
            fcgiwrap,
            port,
            dir: dir.to_owned(),
        };
        wait::until(
            "the git server accepts connections",
            Duration::from_secs(10),
            || {
                (std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
                    && UnixStream::connect(&socket).is_ok())
                .then_some(())
            },
        );
        Ok(server)
    }

    /// The URL of the repository folder `name`.
    pub fn url(&self, name: &str) -> String {
        format!("https://localhost:{}/{name}", self.port)
    }

    /// The certificate of the private CA, in PEM.
    pub fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// A file that holds the token.
    pub fn token(&self) -> PathBuf {
        self.dir.join("token")
    }

    /// The value of the `Authorization` header that the server accepts.
    pub fn authorization(&self) -> String {
        authorization()
    }

    /// The access log: one line a request, the connection's number first.
    pub fn access_log(&self) -> PathBuf {
        self.dir.join("access.log")
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        for child in [&mut self.nginx, &mut self.fcgiwrap] {
            // Both have workers, which a KILL of the parent alone would leave.
            if let Some(pid) = rustix::process::Pid::from_raw(child.id().cast_signed()) {
                let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::TERM);
            }
            let _ = child.wait();
        }
    }
}

fn authorization() -> String {
    use base64::Engine as _;
    format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(GitServer::TOKEN)
    )
}

fn git_exec_path() -> Result<PathBuf> {
    let output = Command::new("git")
        .arg("--exec-path")
        .output()
        .context("git")?;
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

/// Makes a CA, a certificate for localhost signed by it, and the token files.
pub(crate) fn make_certificates(dir: &Path) -> Result<()> {
    let mut authority = rcgen::CertificateParams::new(Vec::new())?;
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    authority
        .distinguished_name
        .push(rcgen::DnType::CommonName, "Writ test CA");
    let authority_key = rcgen::KeyPair::generate()?;
    let authority_certificate = authority.self_signed(&authority_key)?;
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate()?;
    let certificate =
        rcgen::CertificateParams::new(vec!["localhost".to_owned()])?.signed_by(&key, &issuer)?;
    std::fs::write(dir.join("ca.pem"), authority_certificate.pem())?;
    std::fs::write(dir.join("server.pem"), certificate.pem())?;
    std::fs::write(dir.join("server.key"), key.serialize_pem())?;
    std::fs::write(dir.join("token"), GitServer::TOKEN)?;
    Ok(())
}

fn nginx_config(dir: &Path, repositories: &Path, backend: &Path, port: u16) -> Result<String> {
    let mut text = String::new();
    if rustix::process::geteuid().is_root() {
        // Otherwise the workers become `nobody`, who cannot read the test's folder.
        text.push_str("user root;\n");
    }
    write!(
        text,
        r#"
daemon off;
worker_processes 1;
pid nginx.pid;
events {{ worker_connections 64; }}
http {{
  log_format requests '$connection "$request" $status';
  access_log access.log requests;
  client_body_temp_path body;
  proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate server.pem;
    ssl_certificate_key server.key;
    location /moved/ {{
      return 301 https://elsewhere.invalid$request_uri;
    }}
    location / {{
      if ($http_authorization != "{authorization}") {{
        add_header WWW-Authenticate 'Basic realm="git"' always;
        return 401;
      }}
      client_max_body_size 64m;
      fastcgi_pass unix:{dir}/fcgi.sock;
      fastcgi_param SCRIPT_FILENAME {backend};
      fastcgi_param GIT_PROJECT_ROOT {repositories};
      fastcgi_param GIT_HTTP_EXPORT_ALL "";
      fastcgi_param GIT_PROTOCOL $http_git_protocol;
      fastcgi_param PATH_INFO $uri;
      fastcgi_param QUERY_STRING $query_string;
      fastcgi_param REQUEST_METHOD $request_method;
      fastcgi_param CONTENT_TYPE $content_type;
      fastcgi_param CONTENT_LENGTH $content_length;
      fastcgi_param HTTP_CONTENT_ENCODING $http_content_encoding;
      fastcgi_param REMOTE_USER reader;
    }}
  }}
}}
"#,
        authorization = authorization(),
        dir = dir.display(),
        backend = backend.display(),
        repositories = repositories.display(),
    )?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `git ls-remote` against `url` with a header and the CA; true if it lists `main`.
    fn lists_main(url: &str, ca: &Path, header: Option<&str>) -> bool {
        let mut git = Command::new("git");
        git.env("GIT_SSL_CAINFO", ca)
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "true");
        if let Some(header) = header {
            git.arg("-c")
                .arg(format!("http.extraHeader=Authorization: {header}"));
        }
        let output = git.args(["ls-remote", url]).output().unwrap();
        output.status.success()
            && String::from_utf8_lossy(&output.stdout).contains("refs/heads/main")
    }

    #[test]
    fn stock_git_reads_with_the_token_and_the_ca_and_not_without() {
        let dir = tempfile::tempdir().unwrap();
        let bare = dir.path().join("repositories/a.git");
        let run = |args: &[&str]| {
            assert!(
                Command::new("git").args(args).status().unwrap().success(),
                "{args:?}"
            );
        };
        let work = dir.path().join("work");
        run(&["init", "-q", "-b", "main", work.to_str().unwrap()]);
        let identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"];
        let mut commit = vec!["-C", work.to_str().unwrap()];
        commit.extend(identity);
        commit.extend([
            "commit",
            "-q",
            "--no-gpg-sign",
            "--allow-empty",
            "-m",
            "one",
        ]);
        run(&commit);
        run(&[
            "clone",
            "-q",
            "--bare",
            work.to_str().unwrap(),
            bare.to_str().unwrap(),
        ]);
        let server =
            GitServer::start(&dir.path().join("server"), &dir.path().join("repositories")).unwrap();
        let basic = server.authorization();
        assert!(lists_main(&server.url("a.git"), &server.ca(), Some(&basic)));
        assert!(
            !lists_main(&server.url("a.git"), &server.ca(), None),
            "without the token"
        );
        assert!(
            !lists_main(
                &server.url("a.git"),
                &dir.path().join("none.pem"),
                Some(&basic)
            ),
            "without the CA"
        );
    }
}
