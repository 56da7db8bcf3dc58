// One picture's way through the gateway: sent, watched, fetched. The Revid dialect's own calls; with
// the demo key the sending goes through the page's own address, which adds the key.

const PAUSE_S = 0.4;
const PATIENCE = 4;

class Removal {
  // `idempotencyKey`: of an earlier try that may have arrived; the same picture is not paid for twice.
  constructor(picture, options, key, idempotencyKey) {
    this.picture = picture;
    this.options = options;
    this.key = key;
    this.idempotencyKey = idempotencyKey;
    this.taskId = null;
    this.isCancelAsked = false;
    this.isOver = false;
    this.aborting = new AbortController();
  }

  // Answers { task, blob, charged }; throws a Refusal. `onProgress(percent, word)` is told how far it is.
  async run(onProgress) {
    try {
      return await this.goThrough(onProgress);
    } finally {
      this.isOver = true;
    }
  }

  async goThrough(onProgress) {
    onProgress(null, "Sending the picture");
    this.taskId = await this.send((share) => onProgress(Math.round(share * 100), "Sending the picture"));
    const [task, charged] = await this.watch(onProgress);
    onProgress(100, "Fetching the cutout");
    const name = task.result.image_filename;
    const answer = await this.ask(`/output/${name}`);
    return { task, charged, name, blob: await answer.blob() };
  }

  // Stops waiting. What a worker has begun goes on there, and answers false, as does what is done.
  async cancel() {
    if (this.isOver) return false;
    this.isCancelAsked = true;
    if (this.taskId === null) {
      this.aborting.abort();
      return true;
    }
    const path = this.key ? `/api/get/${this.taskId}` : `/playground/cutouts/${this.taskId}`;
    const answer = await fetch(path, { method: "DELETE", headers: this.headers() });
    return answer.ok && (await answer.json()).status !== "completed";
  }

  headers() {
    return this.key ? { "x-api-key": this.key } : {};
  }

  // An XMLHttpRequest, since fetch does not tell how much of an upload is sent.
  send(onShare) {
    const form = new FormData();
    for (const [name, value] of Object.entries(this.options)) form.append(name, value);
    form.append("file", this.picture.file, this.picture.name);
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.open("POST", this.key ? "/paid/image/remove/background" : "/playground/cutouts");
      for (const [name, value] of Object.entries(this.headers())) request.setRequestHeader(name, value);
      request.setRequestHeader("Idempotency-Key", this.idempotencyKey);
      request.responseType = "json";
      request.upload.onprogress = (event) => event.lengthComputable && onShare(event.loaded / event.total);
      request.onload = () => {
        if (request.status === 200) resolve(request.response.task_id);
        else reject(refusalOf(request.response, request.getResponseHeader("Retry-After")));
      };
      request.onerror = () => reject(new Refusal("offline"));
      request.onabort = () => reject(new Refusal("canceled"));
      this.aborting.signal.addEventListener("abort", () => request.abort());
      if (this.aborting.signal.aborted) reject(new Refusal("canceled"));
      else request.send(form);
    });
  }

  async watch(onProgress) {
    for (;;) {
      const answer = await this.ask(`/api/get/${this.taskId}?wait=${PAUSE_S}`);
      const task = await answer.json();
      if (task.status === "completed") return [task, Number(answer.headers.get("X-Credits-Charged"))];
      if (task.status === "failed") throw this.failure(task);
      onProgress(task.progress, stageWord(task.progress));
    }
  }

  failure(task) {
    if (this.isCancelAsked && task.message.endsWith("Canceled")) return new Refusal("canceled");
    const words = task.result?.error ?? task.message;
    const kind = Object.entries(FAILURES).find(([title]) => task.message.endsWith(title));
    return new Refusal(kind ? kind[1] : "failed", words);
  }

  // A gateway that is restarted under us is asked again; what it refuses is not.
  async ask(path) {
    for (let attempt = 1; ; attempt += 1) {
      try {
        const answer = await fetch(path);
        if (answer.ok) return answer;
        if (answer.status < 500) throw refusalOf(await answer.json(), answer.headers.get("Retry-After"));
      } catch (error) {
        if (error instanceof Refusal) throw error;
      }
      if (attempt === PATIENCE) throw new Refusal("offline");
      await new Promise((resolve) => setTimeout(resolve, 500 * attempt));
    }
  }
}

function newIdempotencyKey() {
  return Array.from(crypto.getRandomValues(new Uint32Array(4)), (word) => word.toString(36)).join("-");
}

// A failed task says why in a title after a colon, and has no code.
const FAILURES = {
  "Invalid image format": "unsupported_format",
  "The file is not a readable image": "unreadable_image",
  "rembg not available": "model_not_installed",
  "The image has too many pixels": "too_many_pixels",
  "No foreground found": "no_foreground",
  "Processing took too long": "deadline_exceeded",
};

// Both shapes of a refusal: the Revid dialect's, and that of RFC 9457.
function refusalOf(body, retryAfter) {
  const code = body?.code ?? body?.error ?? "failed";
  return new Refusal(code, body?.detail ?? body?.message ?? "", Number(retryAfter) || 0);
}
