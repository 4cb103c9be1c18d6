# Golden values of binary and time-to-event endpoints: six simulated trials (one without events in
# an arm, one without any event, one with three arms), glm, brglm, coxph in each, metafor over them.
# Run: Rscript events.R > events.json  (writes events.csv beside it)
suppressMessages({library(metafor); library(survival); library(brglm); library(jsonlite)})
RNGversion("4.2.0"); set.seed(20240707)
spec <- data.frame(trial = c("ALPHA", "BRAVO", "CHARLIE", "DELTA", "ECHO", "FOXTROT"),
                   n = c(160, 240, 60, 210, 130, 50), odds = c(-1.1, -0.7, -2.6, -0.9, -1.4, -9),
                   effect = c(-0.5, -0.3, -9, -0.6, 0.1, 0))
rows <- do.call(rbind, lapply(seq_len(nrow(spec)), function(i) {
  s <- spec[i, ]
  arms <- if (s$trial == "DELTA") c("control", "active", "high-dose") else c("control", "active")
  arm <- sample(arms, s$n, TRUE, if (s$trial == "BRAVO") c(1, 2) else rep(1, length(arms)))
  age <- round(rnorm(s$n, 62, 9), 1)
  sex <- sample(c("male", "female"), s$n, TRUE)
  eta <- s$odds + ifelse(arm == "control", 0, s$effect) + 0.03 * (age - 62) + 0.3 * (sex == "male")
  died <- rbinom(s$n, 1, plogis(eta))
  latent <- rexp(s$n, exp(eta) / 400); censor <- runif(s$n, 100, 900)
  time <- ceiling(pmin(latent, censor) / 14) * 14     # two-week steps: many ties
  mace <- as.integer(latent <= censor)
  data.frame(trial = s$trial, participant_id = sprintf("%s-%03d", substr(s$trial, 1, 1), 1:s$n),
             arm = arm, age_years = age, sex = sex, died = died, mace_day = time, mace = mace)
}))
write.csv(rows, "events.csv", row.names = FALSE, na = "", quote = FALSE)
rows <- read.csv("events.csv", colClasses = c(participant_id = "character"))
rows$arm <- relevel(factor(rows$arm), ref = "control"); rows$male <- as.numeric(rows$sex == "male")
tight <- glm.control(epsilon = 1e-15, maxit = 200)
trials <- unique(rows$trial)
of <- function(t) { d <- rows[rows$trial == t, ]; d$arm <- droplevels(d$arm); d }
arms <- function(co) { keep <- grep("^arm", rownames(co)); data.frame(arm = sub("^arm", "",
  rownames(co)[keep]), estimate = co[keep, 1], se = co[keep, ncol(co)]) }
each <- function(f, which = trials) do.call(rbind, lapply(which, function(t) {
  r <- f(of(t)); cbind(trial = t, r) }))

# ---- 2 x 2 tables
cells <- each(function(d) do.call(rbind, lapply(setdiff(levels(d$arm), "control"), function(a)
  data.frame(arm = a, ai = sum(d$died[d$arm == a]), n1i = sum(d$arm == a),
             ci = sum(d$died[d$arm == "control"]), n2i = sum(d$arm == "control")))))
two <- function(measure, d, ...) { e <- escalc(measure, ai = d$ai, n1i = d$n1i, ci = d$ci,
  n2i = d$n2i, ...); data.frame(trial = d$trial, arm = d$arm, estimate = as.numeric(e$yi),
  se = sqrt(e$vi)) }
plain <- cells[cells$ai > 0 & cells$ci > 0, ]
one <- cells[cells$ai + cells$ci > 0 & !(cells$ai > 0 & cells$ci > 0), ]
none <- cells[cells$ai + cells$ci == 0, ]
active <- cells[cells$arm == "active", ]
mh <- function(m) { r <- rma.mh(measure = m, ai = ai, n1i = n1i, ci = ci, n2i = n2i, data = active,
  add = 0, drop00 = m != "RD", correct = FALSE)
  list(estimate = as.numeric(r$beta), se = r$se, ci_low = r$ci.lb, ci_high = r$ci.ub, p = r$pval) }
peto <- rma.peto(ai = ai, n1i = n1i, ci = ci, n2i = n2i, data = active, add = 0, drop00 = TRUE)

# ---- Firth, from the formula alone: maximum of the penalised likelihood by the score's root
firth_formula <- function(x, y) {
  b <- rep(0, ncol(x))
  for (i in 1:2000) {
    p <- as.numeric(plogis(x %*% b)); w <- p * (1 - p); inv <- solve(t(x) %*% (x * w))
    h <- w * rowSums((x %*% inv) * x); s <- inv %*% (t(x) %*% (y - p + h * (0.5 - p)))
    b <- b + s * min(1, 1 / max(abs(s))); if (max(abs(s)) < 1e-13) break
  }
  data.frame(estimate = as.numeric(b), se = sqrt(diag(inv)))
}
sparse <- c("CHARLIE")
firth <- each(function(d) { x <- model.matrix(~ arm, d); r <- firth_formula(x, d$died)
  cbind(arm = sub("^arm", "", colnames(x)), r)[grep("^arm", colnames(x)), ] }, sparse)
firth_adjusted <- each(function(d) { x <- model.matrix(~ arm + age_years + male, d)
  r <- firth_formula(x, d$died)
  cbind(arm = sub("^arm", "", colnames(x)), r)[grep("^arm", colnames(x)), ] }, sparse)
brglm_adjusted <- each(function(d) arms({ m <- brglm(died ~ arm + age_years + male, data = d,
  family = binomial, control.brglm = brglm.control(br.epsilon = 1e-13, br.maxit = 5000))
  coef(summary(m))[, 1:2] }), sparse)
logistic <- each(function(d) arms(coef(summary(glm(died ~ arm + age_years + male, binomial, d,
  control = tight)))[, 1:2]), c("ALPHA", "BRAVO", "DELTA", "ECHO"))

# ---- Cox
cc <- coxph.control(eps = 1e-14, iter.max = 100, toler.chol = 1e-15)
cox <- function(f) function(d) { m <- coxph(f, d, ties = "efron", control = cc)
  co <- coef(summary(m)); data.frame(arms(co[, c("coef", "se(coef)"), drop = FALSE]),
  log_likelihood = m$loglik[2]) }
with_events <- c("ALPHA", "BRAVO", "DELTA", "ECHO")
cox_plain <- each(cox(Surv(mace_day, mace) ~ arm), with_events)
cox_adjusted <- each(cox(Surv(mace_day, mace) ~ arm + age_years + male), with_events)
# Firth's penalty on the Cox model, by coxph's own likelihood and information at fixed coefficients
cox_firth <- each(function(d) {
  at <- function(b) { m <- coxph(Surv(mace_day, mace) ~ arm, d, init = b, ties = "efron",
    control = coxph.control(iter.max = 0)); c(m$loglik[2], m$var) }
  pl <- function(b) { r <- at(b); r[1] - 0.5 * log(r[2]) }
  slope <- function(b, h = 1e-5) (pl(b + h) - pl(b - h)) / (2 * h)
  b <- uniroot(slope, c(-8, 3), tol = 1e-12)$root
  data.frame(arm = "active", estimate = b, se = sqrt(at(b)[2])) }, sparse)
several <- rows[rows$trial %in% with_events, ]
strat <- coxph(Surv(mace_day, mace) ~ arm + strata(trial), several, ties = "efron", control = cc)
strat_adj <- coxph(Surv(mace_day, mace) ~ arm + age_years:strata(trial) + male:strata(trial) +
  strata(trial), several, ties = "efron", control = cc)
common <- function(m) { co <- coef(summary(m)); k <- grep("^arm", rownames(co))
  data.frame(arm = sub("^arm", "", rownames(co)[k]), estimate = co[k, 1], se = co[k, 3],
             log_likelihood = m$loglik[2]) }
out <- list(
  made_by = list(R = R.version.string, metafor = as.character(packageVersion("metafor")),
    survival = as.character(packageVersion("survival")),
    brglm = as.character(packageVersion("brglm"))),
  cells = cells,
  odds_ratio = two("OR", plain), risk_ratio = two("RR", plain), risk_difference = two("RD",
    cells[cells$ai + cells$ci > 0, ], add = 0, to = "none"),
  risk_ratio_corrected = two("RR", one, add = 0.5, to = "all"),
  risk_difference_corrected = two("RD", none, add = 0.5, to = "all"),
  mantel_haenszel = list(`odds-ratio` = mh("OR"), `risk-ratio` = mh("RR"),
    `risk-difference` = mh("RD")),
  peto = list(estimate = as.numeric(peto$beta), se = peto$se, ci_low = peto$ci.lb,
    ci_high = peto$ci.ub, p = peto$pval),
  firth = firth, firth_adjusted = firth_adjusted, brglm_adjusted = brglm_adjusted,
  logistic_adjusted = logistic, cox = cox_plain, cox_adjusted = cox_adjusted,
  cox_firth = cox_firth, cox_stratified = common(strat), cox_stratified_adjusted = common(strat_adj))
cat(toJSON(out, digits = I(17), auto_unbox = TRUE, pretty = TRUE, na = "null"), "\n")
