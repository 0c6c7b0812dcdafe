// Reading a certificate or key from a file that was picked, and telling early when it is not one.

const LARGEST = 256 * 1024; // bytes

/** Give {pem, said}, or {problem}: a sentence. `kind` is "certificate" or "key". */
export async function checkPem(file, kind) {
  if (file.size > LARGEST) return { problem: `${file.name} is too large for a ${kind}.` };
  let text;
  try {
    text = await read(file);
  } catch {
    return { problem: `${file.name} cannot be read.` };
  }
  const problem = wrong(text, kind);
  if (problem) return { problem: `${file.name}: ${problem}` };
  const number = [...text.matchAll(/-----BEGIN CERTIFICATE-----/g)].length;
  const holds = kind === "key" ? "a private key" : number === 1 ? "one certificate" : `${number} certificates`;
  return { pem: text, said: `${file.name}: ${holds}.` };
}

function read(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result));
    reader.addEventListener("error", () => reject(reader.error));
    reader.readAsText(file);
  });
}

function wrong(text, kind) {
  const certificate = text.includes("-----BEGIN CERTIFICATE-----");
  const encrypted = text.includes("-----BEGIN ENCRYPTED PRIVATE KEY-----") || text.includes("Proc-Type: 4,ENCRYPTED");
  const key = /-----BEGIN (RSA |EC )?PRIVATE KEY-----/.test(text);
  if (kind === "certificate") {
    if (certificate) return "";
    return key || encrypted ? "this is a private key; choose the certificate." : "this is no PEM certificate (no line -----BEGIN CERTIFICATE-----).";
  }
  if (encrypted) return "the key is encrypted; store it without a passphrase first.";
  if (key) return "";
  return certificate ? "this is a certificate; choose its private key." : "this is no PEM private key (no line -----BEGIN PRIVATE KEY-----).";
}
