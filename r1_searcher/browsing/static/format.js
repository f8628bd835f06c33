// Figures as people read them.

const whole = new Intl.NumberFormat("en-US");

export const count = (value) => (value === null || value === undefined ? "–" : whole.format(value));

export function figure(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return whole.format(value);
  if (value !== 0 && (Math.abs(value) < 0.001 || Math.abs(value) >= 100000)) return value.toExponential(1);
  return Math.abs(value) >= 100 ? whole.format(Math.round(value)) : String(Number(value.toPrecision(digits)));
}

export const signed = (value) => (value > 0 ? `+${figure(value)}` : figure(value));

export const plural = (number, one, many) => `${count(number)} ${number === 1 ? one : many}`;

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const minutes = Math.round(seconds / 60);
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (minutes < 120) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

const NAMES = {
  answer_reward: "answer (reward)",
  cover_em: "Cover-EM",
  cover_em_contiguous: "Cover-EM, contiguous",
  em: "EM",
  f1: "F1",
  finish_reason: "finish",
  num_searches: "searches",
  num_tokens: "tokens in all",
  policy_tokens: "policy tokens",
  question_kind: "question kind",
  format_right: "format",
  question_id: "question id",
};

export const label = (name) => NAMES[name] ?? name.replace(/^component_/, "").replaceAll("_", " ");

export function place(row) {
  const where = row.kind === "evaluation" ? `${row.policy} on ${row.benchmark}` : row.policy;
  if (row.iteration === null) return where;
  const when = row.kind === "validation" ? (row.iteration ? "validation after " : "validation before ") : "";
  return `${where}, ${when}iteration\u00a0${row.iteration || 1}`;
}

export const placeOfOne = (row) => (row.kind === "training" ? `${place(row)}, sample ${row.sample}` : place(row));
