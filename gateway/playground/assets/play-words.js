// What the page says: of stages, of doubts, of refusals. Codes are the API's, words are for people.

const STAGE_WORDS = [
  [0, "Waiting for a worker"],
  [5, "Reading the picture"],
  [20, "Finding the subject"],
  [50, "Following its edge"],
  [65, "Taking the old background out of the edge"],
  [75, "Putting it together"],
  [85, "Writing the file"],
  [95, "Storing it"],
];

const REASON_WORDS = {
  low_resolution: "The picture is small: there is little edge to follow.",
  colour_collision: "Subject and background have much the same colours along the edge.",
  motion_blur: "The subject is blurred by motion.",
  touches_frame: "The subject runs out of the picture.",
  no_clear_subject: "It is not clear what the subject is.",
};

// Title, and what to do about it.
const REFUSALS = {
  missing_key: ["An API key, please", "Put it into the field “Your API key” and press Enter."],
  unknown_key: ["That key is not known", "Look for a missing or an extra character."],
  key_revoked: ["That key is no longer valid", "It was revoked or has expired: use another."],
  key_not_allowed: ["That key may not do this", "Its addresses or scopes leave this call out."],
  account_suspended: ["The account is suspended", "Nothing was charged. Ask the operator."],
  insufficient_credits: ["Out of credits", "Nothing was charged."],
  rate_limited: ["A little too fast", "Nothing was charged."],
  too_many_at_once: ["Too many at once", "Wait until one of the others is done."],
  unsupported_format: ["That is not a picture we can read", "Nothing was charged."],
  unreadable_image: ["The picture is broken", "Nothing was charged."],
  empty_file: ["The file is empty", "Nothing was sent, and nothing was charged."],
  file_too_large: ["The file is too large", ""],
  too_many_pixels: ["The picture is over the limits", "Make it smaller and try again. Nothing was charged."],
  no_foreground: ["Nothing to cut out", "No subject stands out. Nothing was charged."],
  model_not_installed: ["That model is not installed here", "Choose another. Nothing was charged."],
  invalid_request: ["Something in the options does not fit", "Nothing was charged."],
  overloaded: ["Very busy just now", "Nothing was charged. Try again in a moment."],
  deadline_exceeded: ["It took too long", "Nothing was charged."],
  foreign_page: ["This page was opened from elsewhere", "Open the gateway's own address and try again."],
  canceled: ["Canceled", "Nothing was charged."],
  offline: ["The gateway does not answer", "Check the connection and try again."],
};

// Where the file itself is at fault, trying it again is no use.
const FILE_FAULTS = new Set(["empty_file", "unsupported_format", "unreadable_image", "file_too_large", "too_many_pixels"]);

// Where only another option, key or account helps: trying again comes last.
const STANDING_FAULTS = new Set([
  "missing_key", "unknown_key", "key_revoked", "key_not_allowed", "account_suspended", "insufficient_credits",
  "invalid_request", "model_not_installed", "no_foreground", "foreign_page",
]);

// Whether trying the same again may help.
function mayHelp(code) {
  return !FILE_FAULTS.has(code) && !STANDING_FAULTS.has(code);
}

// Options as the form calls them.
const OPTION_WORDS = { crop_margin: "Margin around it", crop: "Crop to the subject", model: "Model", format: "File" };

const DEMO_EMPTY = "The demo key's budget is used up for now. Your own key goes on: “Use your own key”.";

class Refusal extends Error {
  constructor(code, words = "", retryAfterS = 0) {
    super(words || code);
    Object.assign(this, { code, words, retryAfterS });
  }
}

function stageWord(progress) {
  return STAGE_WORDS.findLast(([from]) => progress >= from)[1];
}

function reasonWord(reason) {
  return REASON_WORDS[reason] ?? reason.replaceAll("_", " ");
}

function sureness(confidence) {
  if (confidence >= 0.85) return ["sure", "good"];
  return confidence >= 0.6 ? ["worth a look", "info"] : ["doubtful", "warn"];
}

// Title, words, hint of a refusal. `isDemo`: the page's own key was refused, not the visitor's.
function refusalWords(refusal, isDemo) {
  let [title, hint] = REFUSALS[refusal.code] ?? ["That did not work", "Nothing was charged."];
  if (refusal.code === "insufficient_credits" && isDemo) hint = `Nothing was charged. ${DEMO_EMPTY}`;
  if (refusal.retryAfterS > 0) hint = `Try again in ${refusal.retryAfterS} s. Nothing was charged.`;
  return [title, newWords(title, refusal), hint];
}

// The gateway's own words, where they say more than the title does.
function newWords(title, { code, words }) {
  if (words.replace(/\.$/, "") === title) return "";
  if (code !== "invalid_request") return words;
  return words.replace(/^.*?\b(crop_margin|crop|model|format): /, (_, name) => `${OPTION_WORDS[name]}: `);
}

// A warning as a sentence among others. The name of a model is written as it is.
function warningSentence(words) {
  const begun = / is not installed/.test(words) ? `The model ${words}` : words[0].toUpperCase() + words.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}

function fileSize(bytes) {
  const kib = bytes / 1024;
  return kib < 1000 ? `${Math.max(1, Math.round(kib))} KiB` : `${(kib / 1024).toFixed(1)} MiB`;
}
