// Original and cutout over each other: a divider between them, one zoom for both, any background.
// The divider stays where it is on the screen while the picture is zoomed and moved beneath it.

const ZOOM_MAX = 8;
const ZOOM_STOPS = [0.05, 0.1, 0.25, 0.5, 1, 2, 3, 4, 6, 8];
const FIT_MAX = 2;
const CRISP_FROM = 2.5;
const PAN_STEP_PX = 60;
const IN_SIGHT_PX = 48;

class Viewer {
  constructor(onZoom) {
    const part = (id) => document.getElementById(id);
    this.onZoom = onZoom;
    this.root = part("viewer");
    this.before = part("before");
    this.after = part("after");
    this.sheets = [part("after-sheet"), part("before-sheet")];
    this.backdrop = part("backdrop");
    this.divider = part("divider");
    this.split = part("split");
    this.size = [1, 1];
    this.pan = null;
    this.split.addEventListener("input", () => {
      cancelAnimationFrame(this.revealing); // a hand on the slider comes first
      this.placeDivider();
    });
    this.divider.addEventListener("pointerdown", (event) => this.grabDivider(event));
    this.root.addEventListener("keydown", (event) => this.useKey(event));
    this.root.addEventListener("wheel", (event) => this.useWheel(event), { passive: false });
    this.root.addEventListener("dblclick", (event) => this.toggleZoom(event));
    new ResizeObserver(() => this.resize()).observe(this.root);
  }

  // Shows the original alone; false where the browser cannot read it.
  async showOriginal(url) {
    this.after.removeAttribute("src");
    this.root.classList.add("alone");
    this.before.src = url;
    try {
      await this.before.decode();
    } catch {
      this.root.hidden = true;
      return false;
    }
    this.root.hidden = false;
    this.lay(this.before.naturalWidth, this.before.naturalHeight);
    return true;
  }

  // Adds the cutout; answers whether both have the same frame, so that they can be compared.
  async showCutout(url) {
    this.after.src = url;
    await this.after.decode();
    const { naturalWidth: width, naturalHeight: height } = this.after;
    const isSameFrame = this.before.naturalWidth === width && this.before.naturalHeight === height;
    this.root.classList.remove("alone");
    this.root.classList.toggle("single", !isSameFrame);
    this.root.hidden = false;
    this.lay(width, height);
    this.moveDivider(100);
    return isSameFrame;
  }

  lay(width, height) {
    this.size = [width, height];
    this.root.parentElement.style.setProperty("--ratio", width / height);
    for (const sheet of this.sheets) {
      sheet.style.width = `${width}px`;
      sheet.style.height = `${height}px`;
    }
    this.begin();
    this.resize(true);
  }

  begin() {
    if (this.pan || typeof Panzoom === "undefined") return;
    const [top, under] = this.sheets;
    this.pan = Panzoom(top, {
      noBind: true,
      canvas: true,
      cursor: "grab",
      touchAction: "", // the style sheet's, which depends on the zoom
      maxScale: ZOOM_MAX,
      minScale: 0.01,
      handleStartEvent: (event) => event.preventDefault(),
    });
    top.addEventListener("panzoomchange", () => {
      under.style.transform = top.style.transform;
      this.zoomed();
    });
    top.addEventListener("panzoomend", () => this.keepInSight());
    this.root.addEventListener("pointerdown", (event) => {
      if (this.divider.contains(event.target)) return;
      this.root.focus({ preventScroll: true });
      this.pan.setOptions({ step: 0.5 * this.scale }); // of a pinch: as quick at every size
      this.pan.handleDown(event);
    });
    document.addEventListener("pointermove", (event) => this.pan.handleMove(event), { passive: true });
    for (const name of ["pointerup", "pointercancel"]) {
      document.addEventListener(name, (event) => this.pan.handleUp(event), { passive: true });
    }
  }

  get scale() {
    return this.pan ? this.pan.getScale() : this.fitScale;
  }

  get fitScale() {
    const [width, height] = this.size;
    return Math.min(this.root.clientWidth / width, this.root.clientHeight / height, FIT_MAX);
  }

  // Panzoom measures from the corner of the frame: margins put the unscaled sheet in its middle.
  resize(isNew = false) {
    if (this.root.hidden || !this.root.clientWidth) return;
    const [width, height] = this.size;
    for (const sheet of this.sheets) {
      sheet.style.marginLeft = `${(this.root.clientWidth - width) / 2}px`;
      sheet.style.marginTop = `${(this.root.clientHeight - height) / 2}px`;
    }
    if (isNew || this.isFit) this.fit();
    else this.placeDivider();
  }

  fit() {
    this.isFit = true;
    if (this.pan) {
      this.pan.zoom(this.fitScale, { animate: false, force: true });
      this.pan.pan(0, 0, { animate: false, force: true });
    } else {
      for (const sheet of this.sheets) sheet.style.transform = `scale(${this.fitScale})`;
    }
    requestAnimationFrame(() => this.zoomed());
  }

  zoomTo(scale, point) {
    this.isFit = false;
    const frame = this.root.getBoundingClientRect();
    const middle = { clientX: frame.left + frame.width / 2, clientY: frame.top + frame.height / 2 };
    this.pan?.zoomToPoint(scale, point ?? middle, { animate: false });
  }

  step(direction) {
    const scale = this.scale;
    const next =
      direction > 0
        ? ZOOM_STOPS.find((stop) => stop > scale * 1.01)
        : ZOOM_STOPS.findLast((stop) => stop < scale * 0.99);
    if (next) this.zoomTo(next);
  }

  zoomed() {
    const scale = this.scale;
    const isFit = Math.abs(scale - this.fitScale) < 1e-4;
    if (!isFit) this.isFit = false;
    this.root.classList.toggle("crisp", scale >= CRISP_FROM);
    // A swipe over a picture that fits scrolls the page; over a zoomed one it moves the picture.
    this.root.classList.toggle("zoomed", scale > this.fitScale * 1.001);
    this.root.style.setProperty("--cell", `${16 / scale}px`);
    this.placeDivider();
    this.onZoom(scale);
  }

  // Never lets the picture be lost outside the frame.
  keepInSight() {
    const frame = this.root.getBoundingClientRect();
    const sheet = this.sheets[0].getBoundingClientRect();
    const { x, y } = this.pan.getPan();
    const scale = this.scale;
    const short = (from, to, low, high) => {
      if (to < low + IN_SIGHT_PX) return low + IN_SIGHT_PX - to;
      return from > high - IN_SIGHT_PX ? high - IN_SIGHT_PX - from : 0;
    };
    const byX = short(sheet.left, sheet.right, frame.left, frame.right);
    const byY = short(sheet.top, sheet.bottom, frame.top, frame.bottom);
    if (byX || byY) this.pan.pan(x + byX / scale, y + byY / scale, { animate: false });
    if (x || y) this.isFit = false;
  }

  // The part of the picture that is on the screen: the divider goes from its left to its right.
  get span() {
    const frame = this.root.getBoundingClientRect();
    const sheet = this.sheets[0].getBoundingClientRect();
    const left = Math.max(0, sheet.left - frame.left);
    const right = Math.min(frame.width, sheet.right - frame.left);
    return right > left ? [left, right] : [0, frame.width];
  }

  placeDivider() {
    const [left, right] = this.span;
    const share = Number(this.split.value) / 100;
    this.root.style.setProperty("--split", `${left + (right - left) * share}px`);
    this.split.setAttribute("aria-valuetext", `${Math.round(share * 100)} % original`);
    this.root.classList.toggle("all-cutout", share < 0.08);
    this.root.classList.toggle("all-original", share > 0.92);
  }

  moveDivider(value) {
    this.split.value = value;
    this.placeDivider();
  }

  grabDivider(event) {
    event.preventDefault();
    cancelAnimationFrame(this.revealing);
    this.divider.setPointerCapture(event.pointerId);
    const follow = (move) => {
      const [left, right] = this.span;
      const at = move.clientX - this.root.getBoundingClientRect().left;
      this.moveDivider((100 * (at - left)) / (right - left));
    };
    const stop = () => this.divider.removeEventListener("pointermove", follow);
    this.divider.addEventListener("pointermove", follow);
    this.divider.addEventListener("pointerup", stop, { once: true });
    this.divider.addEventListener("pointercancel", stop, { once: true });
    this.split.focus({ preventScroll: true });
  }

  // Draws the divider over the picture once, so that the eye sees what was done.
  reveal(isSameFrame) {
    cancelAnimationFrame(this.revealing);
    const end = isSameFrame ? 50 : 0;
    if (!isSameFrame || matchMedia("(prefers-reduced-motion: reduce)").matches) {
      this.moveDivider(end);
      return;
    }
    const begun = performance.now();
    const draw = (now) => {
      const share = Math.min(1, Math.max(0, now - begun) / 700);
      this.moveDivider(end + (100 - end) * (1 - share) ** 3);
      if (share < 1) this.revealing = requestAnimationFrame(draw);
    };
    draw(begun);
  }

  useKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const pans = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    const acts = { "+": () => this.step(1), "=": () => this.step(1), "-": () => this.step(-1), 0: () => this.fit() };
    if (pans[event.key] && this.pan) {
      const { x, y } = this.pan.getPan();
      const by = PAN_STEP_PX / this.scale;
      this.isFit = false;
      this.pan.pan(x + pans[event.key][0] * by, y + pans[event.key][1] * by, { animate: false });
      requestAnimationFrame(() => this.keepInSight());
    } else if (acts[event.key]) acts[event.key]();
    else return;
    event.preventDefault();
  }

  // The wheel scrolls the page, as everywhere, until the picture was clicked or Ctrl is held.
  useWheel(event) {
    const isMeant = event.ctrlKey || event.metaKey || this.root.contains(document.activeElement);
    if (!isMeant || !this.pan) return;
    event.preventDefault();
    this.zoomTo(this.scale * Math.exp(-Math.sign(event.deltaY) * 0.15), event);
  }

  toggleZoom(event) {
    if (this.divider.contains(event.target)) return;
    if (this.scale > this.fitScale * 1.01) this.fit();
    else this.zoomTo(Math.max(2, this.fitScale * 3), event);
  }

  setGround(colour, url = "") {
    this.backdrop.classList.toggle("checker", colour === "checker");
    this.backdrop.style.backgroundColor = colour === "checker" ? "" : colour;
    this.backdrop.style.backgroundImage = url ? `url("${url}")` : "";
  }

  setView(name) {
    this.root.classList.toggle("alpha", name === "alpha");
    document.getElementById("shown-right").textContent = name === "alpha" ? "Alpha" : "Cutout";
  }
}
