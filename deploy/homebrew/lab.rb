class Lab < Formula
  desc "Tests whether clusters of ARM64 Talos-layout images form"
  homepage "https://github.com/@REPOSITORY@"
  version "@VERSION@"
  license "Apache-2.0"

@ARCHIVES@

  depends_on "qemu"

  def install
    bin.install "bin/lab"
    share.install "share/lab"
    doc.install Dir["share/doc/lab/*"]
    man1.install Dir["share/man/man1/*.1"]
    bash_completion.install "share/bash-completion/completions/lab"
    zsh_completion.install "share/zsh/site-functions/_lab"
    fish_completion.install "share/fish/vendor_completions.d/lab.fish"
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/lab -V")
    assert_match "sha256:", shell_output("#{bin}/lab --version")
  end
end
