# Golden values of the whole two-stage analysis: six simulated trials, lm() in each, metafor over
# them. Run: Rscript two_stage.R > two_stage.json  (writes trials.csv beside it)
suppressMessages({library(metafor); library(jsonlite)})
RNGversion("4.2.0"); set.seed(20240611)

spec <- data.frame(trial = c("ALPHA", "BRAVO", "CHARLIE", "DELTA", "ECHO", "FOXTROT"),
                   n = c(72, 110, 48, 90, 60, 84), sd = c(6, 8, 5, 9, 7, 6),
                   effect = c(2.1, 3.4, 0.4, 5.2, 1.9, 2.8), shift = c(0, 6, -4, 2, 9, -1))
rows <- do.call(rbind, lapply(seq_len(nrow(spec)), function(i) {
  s <- spec[i, ]
  arms <- if (s$trial == "DELTA") c("control", "active", "high-dose") else c("control", "active")
  prob <- if (s$trial == "BRAVO") c(1, 2) else rep(1, length(arms))
  arm <- sample(arms, s$n, TRUE, prob)
  age <- round(rnorm(s$n, 61, 9), 1)
  sex <- if (s$trial == "ECHO") rep("male", s$n) else sample(c("male", "female"), s$n, TRUE)
  base <- 48 + s$shift + rnorm(s$n, 0, 8)
  gain <- c(control = 0, active = s$effect, `high-dose` = s$effect + 1.5)[arm]
  y <- 20 + 0.6 * base + s$shift - 0.08 * (age - 61) + 1.2 * (sex == "male") + gain +
    rnorm(s$n, 0, s$sd)
  base[runif(s$n) < 0.06] <- NA
  if (s$trial == "FOXTROT") age[runif(s$n) < 0.1] <- NA
  y[runif(s$n) < 0.08] <- NA
  data.frame(trial = s$trial, participant_id = sprintf("%s-%03d", substr(s$trial, 1, 1), 1:s$n),
             arm = arm, age_years = age, sex = sex, lv_ef_baseline = base, lv_ef_percent = y)
}))
write.csv(rows, "trials.csv", row.names = FALSE, na = "", quote = FALSE)
rows <- read.csv("trials.csv", colClasses = c(participant_id = "character"))
rows$arm <- relevel(factor(rows$arm), ref = "control")

# Mean over all randomised of the trial, both arms, before anyone is dropped (White & Thompson 2005)
fill <- function(x) ifelse(is.na(x), mean(x, na.rm = TRUE), x)
variants <- list(
  ancova = list(f = y ~ arm + b, impute = TRUE),
  ancova_adjusted = list(f = y ~ arm + b + age + male, impute = TRUE),
  ancova_complete = list(f = y ~ arm + b + age + male, impute = FALSE),
  change = list(f = d ~ arm, impute = FALSE),
  follow_up = list(f = y ~ arm, impute = TRUE)
)
fit_one <- function(v, trial) {
  d <- rows[rows$trial == trial, ]
  d$y <- d$lv_ef_percent; d$b <- d$lv_ef_baseline; d$age <- d$age_years
  d$male <- as.numeric(d$sex == "male"); d$d <- d$y - d$b
  if (v$impute) { d$b <- fill(d$b); d$age <- fill(d$age) }
  d$arm <- droplevels(d$arm)
  m <- lm(v$f, d); co <- coef(summary(m)); used <- model.frame(m)
  keep <- grep("^arm", rownames(co))
  data.frame(trial = trial, arm = sub("^arm", "", rownames(co)[keep]), estimate = co[keep, 1],
             se = co[keep, 2], df = m$df.residual, residual_sd = summary(m)$sigma,
             n_control = sum(used$arm == "control"),
             n_active = as.integer(table(used$arm)[sub("^arm", "", rownames(co)[keep])]),
             p = co[keep, 4], ci_low = confint(m)[rownames(co)[keep], 1],
             ci_high = confint(m)[rownames(co)[keep], 2])
}
tight <- list(threshold = 1e-12, maxiter = 20000)
pool <- function(t) {
  a <- t[t$arm == "active", ]
  r <- function(test, m = "REML") suppressWarnings(
    rma(estimate, sei = se, data = a, method = m, test = test, control = tight))
  row <- function(x) { p <- predict(x); list(se = x$se, ci_low = x$ci.lb, ci_high = x$ci.ub,
    p = x$pval, pi_low = p$pi.lb, pi_high = p$pi.ub) }
  z <- r("z"); ci <- confint(z, control = list(tol = 1e-13))$random
  loo <- leave1out(r("adhoc"))
  list(estimate = as.numeric(z$beta), tau2 = z$tau2, i2 = z$I2, h2 = z$H2, q = z$QE, q_p = z$QEp,
       weights = as.numeric(weights(z)), wald = row(z), hksj = row(r("knha")),
       `hksj-truncated` = row(r("adhoc")), common = row(r("z", "FE")),
       common_estimate = as.numeric(r("z", "FE")$beta),
       q_profile = list(low = ci[, 1 + 1], high = ci[, 3]),
       leave_one_out = list(estimate = loo$estimate, se = loo$se, ci_low = loo$ci.lb,
                            ci_high = loo$ci.ub, tau2 = loo$tau2))
}
out <- lapply(variants, function(v) {
  t <- do.call(rbind, lapply(unique(rows$trial), function(x) fit_one(v, x)))
  list(trials = t, pooled = pool(t))
})
cat(toJSON(list(
  made_by = list(R = R.version.string, metafor = as.character(packageVersion("metafor"))),
  tolerance = list(trials_relative = 1e-9, pooled_relative = 1e-6),
  variants = out), digits = I(17), auto_unbox = TRUE, pretty = TRUE, na = "null"), "\n")
