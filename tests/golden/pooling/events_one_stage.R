# Golden values of one-stage models of events, of restricted mean survival and of the test of
# proportional hazards: seven simulated trials, one without events in its active arm.
# Run: Rscript events_one_stage.R > events_one_stage.json (writes events_one_stage.csv beside it).
# coxme could not be had; its estimator (penalised partial likelihood, the variance by Laplace's
# approximation) is maximised here directly, score and information from coxph at fixed coefficients.
suppressMessages({library(lme4); library(survival); library(metafor); library(jsonlite)})
RNGversion("4.2.0"); set.seed(20261201)
spec <- data.frame(trial = paste0("T", 1:7), n = c(140, 210, 90, 260, 120, 180, 64),
  base = c(-0.9, -0.6, -1.2, -0.8, -1.1, -0.5, -0.9),
  effect = c(-1.1, -0.1, -0.9, 0.3, -0.7, -0.5, -9), late = c(0, 1.6, 0, 0.9, 0, 1.1, 0))
rows <- do.call(rbind, lapply(seq_len(nrow(spec)), function(i) {
  s <- spec[i, ]; n <- s$n
  arm <- sample(c("control", "active"), n, TRUE, if (s$trial == "T2") c(1, 2) else c(1, 1))
  age <- round(rnorm(n, 58 + i, 9), 1); sex <- sample(c("male", "female"), n, TRUE)
  eta <- s$base + (arm == "active") * (s$effect + 0.025 * (age - 60)) + 0.03 * (age - 60)
  died <- rbinom(n, 1, plogis(eta))
  early <- rexp(n, exp(eta) / 500)                       # the effect wanes in some trials
  later <- 200 + rexp(n, exp(eta + s$late * (arm == "active")) / 500)
  latent <- ifelse(early < 200, early, later); censor <- runif(n, 250, 900)
  data.frame(trial = s$trial, participant_id = sprintf("%s-%03d", s$trial, 1:n), arm = arm,
    age_years = age, sex = sex, died = died, mace_day = ceiling(pmin(latent, censor) / 7) * 7,
    mace = as.integer(latent <= censor))
}))
write.csv(rows, "events_one_stage.csv", row.names = FALSE, quote = FALSE)
d <- read.csv("events_one_stage.csv", colClasses = c(participant_id = "character"))
d$trial <- factor(d$trial); d$t <- as.numeric(d$arm == "active"); d$tc <- d$t - ave(d$t, d$trial)
d$age10 <- d$age_years / 10; d$ac <- d$age10 - ave(d$age10, d$trial)
d$ti <- d$tc * d$ac; d$male <- as.numeric(d$sex == "male"); d$mc <- d$male - ave(d$male, d$trial)
d$tm <- d$tc * d$mc
tight <- glmerControl(optimizer = "bobyqa", tolPwrss = 1e-13,
  optCtrl = list(rhoend = 1e-11, maxfun = 1e6), check.conv.grad = "ignore")
of_glmer <- function(f, terms, data = d) {
  m <- glmer(f, data = data, family = binomial, nAGQ = 15, control = tight)
  list(estimate = unname(fixef(m)[terms]), se = unname(sqrt(diag(as.matrix(vcov(m)))[terms])),
    tau2 = as.numeric(VarCorr(m)[[1]]), log_likelihood = as.numeric(logLik(m)))
}
logistic <- list(
  plain = of_glmer(died ~ 0 + trial + tc + (0 + tc | trial), "tc"),
  adjusted = of_glmer(died ~ 0 + trial + trial:ac + tc + (0 + tc | trial), "tc"),
  age = of_glmer(died ~ 0 + trial + trial:ac + tc + ti + (0 + tc | trial), c("tc", "ti")),
  sex = of_glmer(died ~ 0 + trial + trial:mc + tc + tm + (0 + tc | trial), c("tc", "tm")))
same <- d[d$trial %in% c("T1", "T3", "T5"), ]
bound <- glm(died ~ 0 + trial + tc, binomial, droplevels(same), control = glm.control(1e-14, 200))

laplace <- function(own, extra) {
  k <- levels(d$trial); Z <- model.matrix(~ 0 + trial, d); p <- length(k)
  O <- if (is.null(own)) NULL else Z * d[[own]]
  E <- if (is.null(extra)) NULL else as.matrix(d[extra])
  o <- if (is.null(O)) 0 else ncol(O); e <- length(extra); m <- 1 + e
  X <- cbind(O, Z * d$t, E)   # the treatment effect of each trial: its mean plus its random part
  y <- Surv(d$mace_day, d$mace)
  ppl <- function(tau) {
    A <- matrix(0, ncol(X), o + m + p)            # own, treatment, extra, random -> columns of X
    A[cbind(seq_len(o), seq_len(o))] <- 1; A[o + 1:p, o + 1] <- 1
    if (e) A[cbind(o + p + seq_len(e), o + 1 + seq_len(e))] <- 1
    A[cbind(o + 1:p, o + m + 1:p)] <- tau
    prior <- c(rep(0, o + m), rep(1, p)); b <- rep(0, o + m + p)
    for (i in 1:200) {
      f <- coxph(y ~ X + strata(d$trial), init = as.numeric(A %*% b), ties = "efron",
        control = coxph.control(iter.max = 0))
      info <- t(A) %*% solve(f$var) %*% A + diag(prior)
      u <- as.numeric(t(A) %*% colSums(residuals(f, "score")))
      step <- solve(info, u - prior * b); b <- b + step * min(1, 2 / max(abs(step)))
      if (max(abs(step)) < 1e-12) break
    }
    random <- o + m + 1:p
    value <- f$loglik[1] - sum(prior * b^2) / 2 -
      as.numeric(determinant(info[random, random])$modulus) / 2
    at <- o + seq_len(m)
    list(value = value, estimate = unname(b[at]), se = sqrt(diag(solve(info))[at]))
  }
  best <- optimize(function(tau) -ppl(tau)$value, c(0.01, 2), tol = 1e-9)
  f <- ppl(best$minimum)
  list(estimate = f$estimate, se = f$se, tau2 = best$minimum^2, log_likelihood = f$value,
    common = ppl(0)$value)
}
d$tx <- d$t * d$ac
cox <- list(plain = laplace(NULL, NULL), adjusted = laplace("ac", NULL), age = laplace("ac", "tx"))

d$arm <- factor(d$arm, levels = c("control", "active"))
zph <- function(m) { z <- cox.zph(m)$table; as.list(setNames(z[grep("arm|GLOBAL", rownames(z))[1], ],
  c("chi2", "df", "p"))) }
some <- setdiff(levels(d$trial), "T7")
proportional <- list(
  trials = lapply(setNames(some, some), function(k) zph(coxph(Surv(mace_day, mace) ~ arm,
    d[d$trial == k, ], ties = "efron"))),
  adjusted = zph(coxph(Surv(mace_day, mace) ~ arm + age10, d[d$trial == "T2", ], ties = "efron")),
  all = zph(coxph(Surv(mace_day, mace) ~ arm + strata(trial), d,
    ties = "efron")))
rmst <- do.call(rbind, lapply(levels(d$trial), function(k) {
  s <- summary(survfit(Surv(mace_day, mace) ~ arm, d[d$trial == k, ]), rmean = 365)$table
  data.frame(trial = k, control = s[1, "rmean"], active = s[2, "rmean"],
    se = sqrt(sum(s[, "se(rmean)"]^2))) }))
rmst$estimate <- rmst$active - rmst$control
pooled <- rma(rmst$estimate, sei = rmst$se, method = "REML", test = "knha",
  control = list(threshold = 1e-12, maxiter = 1000))
out <- list(made_by = list(R = R.version.string, lme4 = as.character(packageVersion("lme4")),
    survival = as.character(packageVersion("survival")),
    metafor = as.character(packageVersion("metafor"))),
  logistic = logistic, cox = cox, proportional = proportional, rmst = rmst,
  bound = list(estimate = coef(bound)[["tc"]], se = sqrt(vcov(bound)["tc", "tc"])),
  rmst_pooled = list(estimate = as.numeric(pooled$beta), se = pooled$se, tau2 = pooled$tau2))
cat(toJSON(out, digits = I(17), auto_unbox = TRUE, pretty = TRUE), "\n")
