// A picture of the visitor's own behind a cutout. It never leaves the browser: the file becomes a
// blob: address, which the pages' policy lets in as a picture, and its field is sent by no form.

class GroundPicture {
  // `file` is the field, `pick` its button, `said` what tells that a file is no picture.
  constructor({ file, pick, said }, onPicked) {
    Object.assign(this, { file, pick, said, onPicked, url: "" });
    file.addEventListener("change", () => this.take());
  }

  // Whichever ground is chosen now: this one asks for its picture where it has none yet.
  choose(isThis) {
    this.pick.hidden = this.file.disabled = !isThis;
    this.said.hidden = true;
    if (isThis && !this.url) this.file.click();
  }

  async take() {
    const [file] = this.file.files;
    this.file.value = "";
    if (!file) return;
    const url = URL.createObjectURL(file);
    try {
      await Object.assign(new Image(), { src: url }).decode();
    } catch {
      URL.revokeObjectURL(url);
      this.said.hidden = false;
      return;
    }
    if (this.url) URL.revokeObjectURL(this.url);
    this.url = url;
    this.onPicked();
  }
}
