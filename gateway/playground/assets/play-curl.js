// The calls that do from a shell what was just done here. The key stays out of them.

const inShell = (text) => `'${text.replaceAll("'", "'\\''")}'`;

// What follows the @ of curl's -F: in its own quotes where the name has what curl reads as an end.
function fileOperand(name) {
  return /[",;\\]/.test(name) ? `"${name.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"` : name;
}

function formLines(fileField, done) {
  const fields = [`${fileField}=@${fileOperand(done.picture.name)}`];
  for (const [name, value] of Object.entries(done.options)) fields.push(`${name}=${value}`);
  return fields.map((field) => `  -F ${inShell(field)}`).join(" \\\n");
}

function firstFetch(url, done) {
  if (!done.picture.path) return "";
  return `curl -o ${inShell(done.picture.name)} ${inShell(url + done.picture.path)}\n\n`;
}

function codiaCurl(url, done) {
  return `${firstFetch(url, done)}curl ${inShell(`${url}/v1/open/remove_bg`)} \\
  -H "Authorization: Bearer $CUTOUT_API_KEY" \\
${formLines("image", done)}

# The answer's data has an image_url, which needs no key:
curl -o ${inShell(done.saveAs)} 'IMAGE_URL'`;
}

function revidCurl(url, done) {
  return `${firstFetch(url, done)}curl -X POST ${inShell(`${url}/paid/image/remove/background`)} \\
  -H "x-api-key: $CUTOUT_API_KEY" \\
${formLines("file", done)}

# The answer names a task_id; the one of this cutout is below. This waits up to 20 s for its end:
curl ${inShell(`${url}/api/get/${done.taskId}?wait=20`)}

# A completed task's result has an image_url. This is the file you see here:
curl -o ${inShell(done.saveAs)} ${inShell(`${url}/output/${done.name}`)}`;
}
