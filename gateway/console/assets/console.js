// A page that shows a secret is the answer to a form. Its address becomes that of the list, so that
// a reload asks for the list and does not send the form again.

const once = document.querySelector("[data-once]");
if (once) history.replaceState(null, "", once.dataset.once);
